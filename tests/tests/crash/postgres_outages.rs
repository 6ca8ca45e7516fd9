//! PostgreSQL cut off, stopped or killed in the middle of a commit, and a commit that arrives after its owner was
//! overtaken.

use thimble_fixtures::proxy::{COMMIT, Fault, Proxy};

use super::bed::{Bed, Database, Mode, holds_control_lock, overtake, signal};
use crate::harness::text;

/// Commits of one sync, more or less: the fence's, and one of each batch.
const COMMITS: u32 = 6;

async fn bed_behind_proxy(database: &Database, mode: Mode) -> (Bed, Proxy) {
    let proxy = Proxy::start(database.server.address()).await.unwrap();
    let destination = database.destination(proxy.address());
    let bed = Bed::with(Some(database.clone()), Some(destination), mode).await;
    bed.sync();
    (bed, proxy)
}

async fn cut_off(name: &str, mode: Mode) {
    let (mut bed, proxy) = bed_behind_proxy(&Database::shared(name).await, mode).await;
    for fault in [Fault::CutBefore, Fault::CutAnswer] {
        let mut met = 0;
        for nth in 1..=COMMITS {
            bed.change();
            let cut = proxy.script(COMMIT, nth, fault);
            let output = bed.thimble.run(&bed.sync_args());
            met += u32::from(cut.is_met());
            proxy.forget();
            let at = format!("{fault:?} at commit {nth}");
            let said = text(&output);
            assert!(output.status.success() || said.contains("error: ") && !said.contains("panicked"), "{at}: {said}");
            bed.sync();
            bed.assert_exact(&at).await;
        }
        assert!(met >= 3, "{fault:?}: only {met} commits were met");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_an_append_that_are_cut_off_before_or_after_they_took_effect() {
    cut_off("outages_cut_append", Mode::Append).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_an_upsert_that_are_cut_off_before_or_after_they_took_effect() {
    cut_off("outages_cut_upsert", Mode::Upsert).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_a_refresh_that_are_cut_off_before_or_after_they_took_effect() {
    cut_off("outages_cut_refresh", Mode::Refresh).await;
}

/// The server is gone when a commit is due. It comes back while the run still tries, or after it has given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_or_killed_in_the_middle_of_a_load() {
    let database = Database::own("outages_stop").await;
    let (mut bed, proxy) = bed_behind_proxy(&database, Mode::Append).await;
    for (nth, kill, late) in [(2, false, false), (3, true, false), (4, false, true), (3, true, true)] {
        bed.change();
        let mut held = proxy.script(COMMIT, nth, Fault::Hold);
        let child = bed.spawn(None);
        held.met().await;
        if kill {
            database.server.kill().unwrap();
        } else {
            database.server.stop_immediate().unwrap();
        }
        held.release();
        if !late {
            database.server.start_again().await.unwrap();
        }
        let output = child.wait_with_output().unwrap();
        if late {
            assert!(!output.status.success(), "there was no server: {}", text(&output));
            database.server.start_again().await.unwrap();
        }
        let at = format!("commit {nth}, killed: {kill}, back late: {late}");
        bed.sync();
        bed.assert_exact(&at).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_connections_costs_a_run_and_nothing_else() {
    let (mut bed, proxy) = bed_behind_proxy(&Database::shared("outages_refuse").await, Mode::Append).await;
    bed.change();
    proxy.refuse(true);
    let output = bed.thimble.run(&bed.sync_args());
    assert!(!output.status.success() && text(&output).contains("error: "), "{}", text(&output));
    proxy.refuse(false);
    bed.sync();
    bed.assert_exact("refused connections").await;
}

/// The owner is stopped inside of a transaction that needs only its COMMIT, and is overtaken; then the COMMIT arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_arrives_after_its_owner_was_overtaken() {
    for mode in [Mode::Append, Mode::Upsert, Mode::Refresh] {
        let name = format!("outages_late_{mode:?}").to_lowercase();
        let (mut bed, proxy) = bed_behind_proxy(&Database::shared(&name).await, mode).await;
        for nth in 1..=4 {
            bed.change();
            let mut held = proxy.script(COMMIT, nth, Fault::Hold);
            let zombie = bed.spawn(None);
            held.met().await;
            signal(&zombie, "STOP");
            // It stands at its commit, wherever it is stopped.
            while holds_control_lock(&bed.thimble).await {
                signal(&zombie, "CONT");
                signal(&zombie, "STOP");
            }
            overtake(&bed);
            let at = format!("{mode:?}, commit {nth}");
            bed.assert_exact(&format!("{at}, before it arrived")).await;
            held.release();
            signal(&zombie, "CONT");
            let output = zombie.wait_with_output().unwrap();
            assert!(!output.status.success(), "{at}: an overtaken run says that it succeeded: {}", text(&output));
            bed.assert_exact(&format!("{at}, after it arrived")).await;
            bed.change();
            bed.sync();
            bed.assert_exact(&format!("{at}, one run later")).await;
        }
    }
}
