//! What may be installed, how it is compiled, and what of it is kept.

use std::fmt::Write;

use thimble_plugin::{CompilerCommand, Limits, PluginError, PluginHost};

use crate::fixture::{TestHost, add_section, component, from_core, plain_session, settings};

async fn refused(wasm: &[u8]) -> PluginError {
    let host = TestHost::new(Limits::default());
    let error = host.host.install(wasm).await.unwrap_err();
    host.works().await;
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_component_is_refused() {
    let error = refused(b"\0asm\x01\0\0\0").await;
    assert!(error.to_string().contains("it is a core module"), "{error}");
    let error = refused(b"(component)").await;
    assert!(error.to_string().contains("it is text"), "{error}");
    let error = refused(&component("steady.wat", &[("BATCHES", "1")])[..500]).await;
    assert!(matches!(error, PluginError::Malformed { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn precompiled_code_is_refused() {
    let host = TestHost::new(Limits::default());
    host.connector("steady.wat", &[("BATCHES", "1")]).await;
    let cached = std::fs::read_dir(host.folder.path().join("cache")).unwrap().next().unwrap().unwrap().path();
    let sealed = std::fs::read(cached).unwrap();
    // What wasmtime itself would gladly run, and the same with our seal before it.
    let code = &sealed[sealed.windows(4).position(|bytes| bytes == b"\x7fELF").unwrap()..];
    assert!(matches!(host.host.install(code).await.unwrap_err(), PluginError::Precompiled));
    assert!(matches!(host.host.install(&sealed).await.unwrap_err(), PluginError::NotAComponent { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_imports_are_refused_by_name() {
    match refused(&component("component_unknown_import.wat", &[])).await {
        PluginError::UnknownImport { names } => {
            assert_eq!(names, ["wasi:sockets/tcp@0.2.6", "acme:backdoor/open@1.0.0"]);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_is_one_sentence_naming_both() {
    let error = refused(&component("component_wrong_version.wat", &[])).await;
    assert!(error.to_string().contains("built for API 0.2.0 and this host speaks 0.1.0"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imports_of_another_type_are_refused() {
    let error = refused(&component("component_wrong_type.wat", &[])).await;
    assert!(matches!(&error, PluginError::Mismatch { version, .. } if version == "0.1.0"), "{error:?}");
    assert!(error.to_string().contains("thimble:connector/log@0.1.0"), "{error}");
}

/// A component with `functions` functions of `branches` small branches each.
fn bomb(functions: usize, branches: usize) -> Vec<u8> {
    let mut module = String::from("(module (memory (export \"memory\") 1)");
    for function in 0..functions {
        let _ = write!(module, "(func (param i32) (result i32) (local $n i32)");
        for branch in 0..branches {
            let _ = write!(
                module,
                "(if (i32.eq (local.get 0) (i32.const {branch})) (then (local.set $n (i32.add (local.get $n) (i32.const {function})))))"
            );
        }
        module.push_str("(local.get $n))");
    }
    module.push_str(
        r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "thimble:connector/source@0.1.0#spec") (result i32) unreachable)
        (func (export "thimble:connector/source@0.1.0#check") (param i32 i32) (result i32) unreachable)
        (func (export "thimble:connector/source@0.1.0#discover") (param i32 i32) (result i32) unreachable)
        (func (export "thimble:connector/source@0.1.0#plan") (param i32) (result i32) unreachable)
        (func (export "thimble:connector/source@0.1.0#read") (param i32) (result i32) unreachable))"#,
    );
    from_core(&wat::parse_str(&module).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compile_bombs_go_off_in_the_child() {
    let bomb = bomb(40, 3_000);
    for (limits, limit) in [
        (Limits { compile_timeout_ms: 300, ..Limits::default() }, "compile_timeout_ms = 300"),
        (Limits { compile_cpu_seconds: 1, ..Limits::default() }, "compile_cpu_seconds = 1"),
        (Limits { compile_memory_mib: 160, ..Limits::default() }, "compile_memory_mib = 160"),
    ] {
        let host = TestHost::new(limits);
        let error = host.host.install(&bomb).await.unwrap_err();
        match &error {
            PluginError::CompileLimit { limit: found } => assert_eq!(found, limit, "{error}"),
            other => panic!("{limit}: {other:?}"),
        }
    }
    let host = TestHost::new(Limits::default());
    host.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compilations_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let notes = folder.path().join("notes");
    let mut settings = settings(folder.path(), Limits::default());
    let script = r#"echo begin >> "$0"; sleep 0.2; echo end >> "$0"; exit 2"#;
    settings.compiler = CompilerCommand {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into(), notes.to_str().unwrap().into()],
    };
    let host = PluginHost::new(settings).unwrap();
    let wasm = component("steady.wat", &[("BATCHES", "1")]);
    let (one, two) = tokio::join!(host.install(&wasm), host.install(&wasm));
    assert!(one.is_err() && two.is_err());
    assert_eq!(std::fs::read_to_string(notes).unwrap(), "begin\nend\nbegin\nend\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_are_limited() {
    let steady = component("steady.wat", &[("BATCHES", "1")]);
    let host = TestHost::new(Limits { component_bytes: steady.len() - 1, ..Limits::default() });
    assert!(matches!(host.host.install(&steady).await.unwrap_err(), PluginError::TooLarge { .. }));
    let host = TestHost::new(Limits { code_bytes: 10_000, ..Limits::default() });
    let error = host.host.install(&steady).await.unwrap_err();
    assert!(error.to_string().contains("code_bytes = 10000"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installed_plugin_outlives_the_host() {
    let steady = component("steady.wat", &[("BATCHES", "1")]);
    let first = TestHost::new(Limits::default());
    let installed = first.host.install(&steady).await.unwrap();
    assert_eq!(installed.api_version, "0.1.0");
    assert_eq!(installed.digest.len(), 64);
    assert_eq!(first.host.install(&steady).await.unwrap(), installed, "installing again changes nothing");

    // From the cache: a compiler that does not exist is not missed.
    let folder = first.folder.path();
    let no_compiler = || {
        let mut settings = settings(folder, Limits::default());
        settings.compiler = CompilerCommand { program: "/nonexistent".into(), args: vec![] };
        settings
    };
    let host = PluginHost::new(no_compiler()).unwrap();
    assert_eq!(host.load(&installed.digest).await.unwrap().spec().await.unwrap(), installed.spec);

    // A cache that somebody else wrote, or that was changed, is not run but made again.
    let cached = std::fs::read_dir(folder.join("cache")).unwrap().next().unwrap().unwrap().path();
    let mut code = std::fs::read(&cached).unwrap();
    let middle = code.len() / 2;
    code[middle] ^= 1;
    std::fs::write(&cached, &code).unwrap();
    let error = PluginHost::new(no_compiler()).unwrap().load(&installed.digest).await.err().unwrap();
    assert!(matches!(error, PluginError::Compiler { .. }), "{error:?}");
    let host = PluginHost::new(settings(folder, Limits::default())).unwrap();
    host.load(&installed.digest).await.unwrap();
    assert_ne!(std::fs::read(&cached).unwrap(), code, "the cache was repaired");
    let other_key = || {
        let mut settings = no_compiler();
        settings.cache_key = [8; 32];
        settings
    };
    assert!(PluginHost::new(other_key()).unwrap().load(&installed.digest).await.is_err());

    host.remove(&installed.digest).await.unwrap();
    assert!(matches!(host.load(&installed.digest).await.err().unwrap(), PluginError::NotInstalled { .. }));
    assert!(matches!(host.remove(&installed.digest).await.unwrap_err(), PluginError::NotInstalled { .. }));
    assert_eq!(std::fs::read_dir(folder.join("cache")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_not_what_its_name_says_is_not_loaded() {
    let host = TestHost::new(Limits::default());
    let steady = component("steady.wat", &[("BATCHES", "1")]);
    let wrong = "0".repeat(64);
    std::fs::write(host.folder.path().join(format!("{wrong}.wasm")), steady).unwrap();
    assert!(matches!(host.host.load(&wrong).await.err().unwrap(), PluginError::Damaged { .. }));
    for digest in ["../../etc/passwd", "", "ABC"] {
        assert!(matches!(host.host.load(digest).await.err().unwrap(), PluginError::NotInstalled { .. }));
    }
}

fn packed(preset: &[u8]) -> Vec<u8> {
    let mut wasm = component("preset.wat", &[]);
    add_section(&mut wasm, "thimble:preset", preset);
    wasm
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn components_that_differ_in_their_preset_share_their_code() {
    let first = TestHost::new(Limits::default());
    let one = first.host.install(&packed(b"one")).await.unwrap();
    // No compiler any more: the code is there already, in memory and in the cache.
    let folder = first.folder.path();
    let host = || {
        let mut settings = settings(folder, Limits::default());
        settings.compiler = CompilerCommand { program: "/nonexistent".into(), args: vec![] };
        PluginHost::new(settings).unwrap()
    };
    let (second, third) = (host(), host());
    let two = second.install(&packed("zwei: ä".as_bytes())).await.unwrap();
    assert_ne!(one.digest, two.digest);
    assert_eq!(std::fs::read_dir(folder.join("cache")).unwrap().count(), 1);
    for (digest, preset) in [(&one.digest, "one"), (&two.digest, "zwei: ä"), (&one.digest, "one")] {
        let connector = third.load(digest).await.unwrap();
        for _call in 0..2 {
            assert_eq!(
                connector.check(&plain_session()).await.unwrap(),
                preset,
                "every instance gets the whole preset"
            );
        }
    }
    third.remove(&one.digest).await.unwrap();
    assert_eq!(host().load(&two.digest).await.unwrap().check(&plain_session()).await.unwrap(), "zwei: ä");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preset_is_one_short_text() {
    let limit = Limits::default().preset_bytes;
    let error = refused(&packed(&vec![b'x'; limit + 1])).await;
    assert!(matches!(error, PluginError::PresetTooLarge { .. }), "{error:?}");
    assert!(refused(&packed(b"\xff\xfe")).await.to_string().contains("thimble:preset is not UTF-8"));
    let mut twice = packed(b"one");
    add_section(&mut twice, "thimble:preset", b"two");
    assert!(refused(&twice).await.to_string().contains("more than one section thimble:preset"));
    let host = TestHost::new(Limits::default());
    host.host.install(&packed(&vec![b'x'; limit])).await.unwrap();
}
