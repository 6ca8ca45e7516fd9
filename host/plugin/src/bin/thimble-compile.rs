//! Compiles one component from standard input to standard output, under limits; see `thimble_plugin::compile`.

fn main() -> std::process::ExitCode {
    thimble_plugin::compile_child_main()
}
