//! The servers that other tests rely upon: PostgreSQL comes back after a crash, the proxy cuts where it was told to.

use thimble_fixtures::{
    postgres::{Options, PASSWORD, Postgres, url_at},
    proxy::{Fault, Proxy},
};
use tokio_postgres::{Client, NoTls};

async fn client(proxy: &Proxy) -> Result<Client, tokio_postgres::Error> {
    let mut config: tokio_postgres::Config = url_at(proxy.address(), "d").parse().unwrap();
    let (client, connection) = config.password(PASSWORD).connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn count(postgres: &Postgres) -> String {
    postgres.query("d", "select count(*) from t").await.unwrap()[0][0].clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_comes_back_after_a_crash_and_the_proxy_cuts_and_holds() {
    let postgres = Postgres::start(Options::default()).await.unwrap();
    postgres.create_database("d").await.unwrap();
    postgres.query("d", "create table t (id int); insert into t values (1)").await.unwrap();
    postgres.stop_immediate().unwrap();
    assert!(postgres.query("d", "select 1").await.is_err());
    postgres.start_again().await.unwrap();
    postgres.kill().unwrap();
    postgres.start_again().await.unwrap();
    assert_eq!(count(&postgres).await, "1");

    let proxy = Proxy::start(postgres.address()).await.unwrap();
    let insert = "begin; insert into t values (2); commit";
    client(&proxy).await.unwrap().batch_execute(insert).await.unwrap();
    assert_eq!(count(&postgres).await, "2");

    let cut = proxy.script(b"COMMIT", 1, Fault::CutBefore);
    assert!(client(&proxy).await.unwrap().batch_execute(insert).await.is_err());
    assert!(cut.is_met());
    assert_eq!(count(&postgres).await, "2", "the server never saw it");

    let mut cut = proxy.script(b"COMMIT", 2, Fault::CutAnswer);
    client(&proxy).await.unwrap().batch_execute(insert).await.unwrap();
    assert!(client(&proxy).await.unwrap().batch_execute(insert).await.is_err());
    cut.met().await;
    assert_eq!(count(&postgres).await, "4", "it took effect, and nobody heard of it");

    let mut held = proxy.script(b"COMMIT", 1, Fault::Hold);
    let holding = client(&proxy).await.unwrap();
    let inserting = tokio::spawn(async move { holding.batch_execute(insert).await });
    held.met().await;
    assert_eq!(count(&postgres).await, "4");
    held.release();
    inserting.await.unwrap().unwrap();
    assert_eq!(count(&postgres).await, "5");

    proxy.refuse(true);
    assert!(client(&proxy).await.is_err());
    proxy.refuse(false);
    client(&proxy).await.unwrap();
}
