//! Answers that break the contract are refused, and messages are cut.

use thimble_plugin::{Limits, PluginError};
use thimble_record::{ErrorKind, Failure, ReplicationMethod};

use crate::fixture::{TestHost, plain_session, stream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_answers_are_refused() {
    let host = TestHost::new(Limits::default());
    let connector = host.connector("bad_answers.wat", &[]).await;
    let session = plain_session();
    match connector.check(&session).await.unwrap_err() {
        PluginError::Connector(Failure { kind: ErrorKind::Config, message, retry_after_ms: None }) => {
            assert!(message.len() <= 4096 && message.starts_with("aaaa"), "{}", message.len());
        }
        other => panic!("{other:?}"),
    }
    let error = connector.discover(&session).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"plugin guest gave an answer to discover that breaks the API: stream "records" is listed twice"#
    );
    let error =
        connector.plan(&session, &stream(), ReplicationMethod::FullTable, Default::default()).await.unwrap_err();
    assert!(error.to_string().contains("a partition has no id"), "{error}");
}
