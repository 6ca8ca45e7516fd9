//! The other tests of this folder prove something only if they would notice. Here the position and the rows are torn apart
//! behind Thimble's back, as a commit in two halves would leave them: each time, the same check must fail.

use super::bed::{Bed, Database, Differences, Mode};

async fn bed(name: &str) -> (Database, Bed) {
    let database = Database::shared(name).await;
    let destination = database.destination(database.server.address());
    let mut bed = Bed::with(Some(database.clone()), Some(destination), Mode::Append).await;
    bed.sync();
    bed.assert_exact("an undisturbed sync").await;
    bed.change();
    (database, bed)
}

async fn run(database: &Database, sql: &str) {
    database.server.query(&database.name, sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_committed_before_their_position_are_found_doubled() {
    let (database, bed) = bed("controls_after").await;
    run(&database, "create table c.before as select * from c._thimble_commits").await;
    assert!(!bed.sync_with("after-load:1").status.success());
    run(&database, "delete from c._thimble_commits; insert into c._thimble_commits select * from c.before").await;
    bed.sync();
    let Differences { lost, doubled, wrong } = bed.differences().await;
    assert!(!doubled.is_empty() && lost.is_empty() && wrong.is_empty(), "{lost:?} {doubled:?} {wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_to_follow_their_position_are_found_lost() {
    let (database, bed) = bed("controls_before").await;
    run(&database, "create table c.before as select * from c.s").await;
    assert!(!bed.sync_with("after-load:1").status.success());
    run(&database, "delete from c.s where id not in (select id from c.before)").await;
    bed.sync();
    let Differences { lost, doubled, wrong } = bed.differences().await;
    assert!(!lost.is_empty() && doubled.is_empty() && wrong.is_empty(), "{lost:?} {doubled:?} {wrong:?}");
}
