//! API 0.1.0: the calls of a source connector.
//!
//! Must only convert and delegate.

mod convert;
mod exports;
mod imports;

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use thimble_record::{Catalog, Failure, ReplicationMethod, Stream};
use wasmtime::{
    Store,
    component::{Component, HasSelf, Linker},
};

use crate::{
    call::{Plugin, Returned},
    connector::{Connector, Plan, ReadRequest, RecordSink, Session, Spec, StreamState},
    error::{Call, PluginError},
    guest::Guest,
    reading::Reading,
};

/// Generated from `wit/v0.1`.
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/v0.1",
        world: "source-connector",
        imports: { default: async | trappable },
        exports: { default: async },
        with: { "thimble:connector/net.connection": crate::api::v0_1::imports::Connection },
    });
}

use bindings::{SourceConnector, SourceConnectorPre, exports::thimble::connector::source, thimble::connector::types};

const VERSION: &str = "0.1.0";

/// A source built for API 0.1.0, linked and ready to instantiate.
pub(crate) struct Source {
    pre: SourceConnectorPre<Guest>,
    plugin: Plugin,
}

impl Source {
    pub(crate) fn new(component: &Component, plugin: Plugin) -> Result<Self, PluginError> {
        let mismatch = |error: wasmtime::Error| PluginError::Mismatch {
            version: VERSION.into(),
            reason: format!("{error:#}").replace('\n', " "),
        };
        let mut linker = Linker::<Guest>::new(component.engine());
        crate::wasi::add_to_linker(&mut linker)
            .and_then(|()| SourceConnector::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest))
            .map_err(|error| PluginError::runtime("link its interfaces", format!("{error:#}")))?;
        let pre = linker.instantiate_pre(component).and_then(SourceConnectorPre::new).map_err(mismatch)?;
        Ok(Self { pre, plugin })
    }

    /// Instantiates anew and calls `function`.
    async fn call<R, F>(
        &self,
        call: Call,
        session: Option<&Session>,
        reading: Option<Reading>,
        function: F,
    ) -> Result<R, PluginError>
    where
        R: Send + 'static,
        F: for<'a> FnOnce(&'a mut Store<Guest>, &'a source::Guest) -> BoxFuture<'a, Returned<R>> + Send + 'static,
    {
        let pre = self.pre.clone();
        self.plugin.run(call, session, reading, |store| Box::pin(instantiated(pre, store, function))).await
    }

    async fn ask_spec(&self) -> Result<Spec, PluginError> {
        let spec = self
            .call(Call::Spec, None, None, |store, source| {
                Box::pin(async move { Ok(Ok(source.call_spec(store).await?)) })
            })
            .await?;
        exports::spec(spec, self.plugin.limits()).map_err(|wrong| wrong.of(self.plugin.label(), Call::Spec))
    }

    /// The spec names the plugin and its memory, so it comes before every other call.
    async fn know_spec(&self) -> Result<(), PluginError> {
        if self.plugin.known_spec().is_none() {
            self.spec().await?;
        }
        Ok(())
    }
}

async fn instantiated<R, F>(pre: SourceConnectorPre<Guest>, store: &mut Store<Guest>, function: F) -> Returned<R>
where
    F: for<'a> FnOnce(&'a mut Store<Guest>, &'a source::Guest) -> BoxFuture<'a, Returned<R>>,
{
    let instance = pre.instantiate_async(&mut *store).await?;
    function(store, instance.thimble_connector_source()).await
}

fn guest_result<T>(result: Result<T, types::ConnectorError>) -> Result<T, Failure> {
    result.map_err(convert::failure)
}

#[async_trait]
impl Connector for Source {
    async fn spec(&self) -> Result<Spec, PluginError> {
        match self.plugin.known_spec() {
            Some(spec) => Ok(spec.clone()),
            None => Ok(self.plugin.learn_spec(self.ask_spec().await?)),
        }
    }

    async fn check(&self, session: &Session) -> Result<String, PluginError> {
        self.know_spec().await?;
        let config = session.config.to_string();
        let message = self
            .call(Call::Check, Some(session), None, move |store, source| {
                Box::pin(async move { Ok(guest_result(source.call_check(store, &config).await?)) })
            })
            .await?;
        Ok(crate::log::clean(&message, self.plugin.limits().message_bytes, &session.secrets))
    }

    async fn discover(&self, session: &Session) -> Result<Catalog, PluginError> {
        self.know_spec().await?;
        let config = session.config.to_string();
        let catalog = self
            .call(Call::Discover, Some(session), None, move |store, source| {
                Box::pin(async move { Ok(guest_result(source.call_discover(store, &config).await?)) })
            })
            .await?;
        exports::catalog(catalog, self.plugin.limits()).map_err(|wrong| wrong.of(self.plugin.label(), Call::Discover))
    }

    async fn plan(
        &self,
        session: &Session,
        stream: &Stream,
        method: ReplicationMethod,
        state: StreamState,
    ) -> Result<Plan, PluginError> {
        self.know_spec().await?;
        let config = session.config.to_string();
        let (stream, method, state) = (convert::stream(stream), convert::method(method), convert::state(state));
        let plan = self
            .call(Call::Plan, Some(session), None, move |store, source| {
                Box::pin(
                    async move { Ok(guest_result(source.call_plan(store, &config, &stream, method, &state).await?)) },
                )
            })
            .await?;
        exports::plan(plan, self.plugin.limits()).map_err(|wrong| wrong.of(self.plugin.label(), Call::Plan))
    }

    async fn read(
        &self,
        session: &Session,
        request: ReadRequest,
        sink: Arc<dyn RecordSink>,
    ) -> Result<(), PluginError> {
        self.know_spec().await?;
        let reading = Reading::new(sink, request.stream.name.clone());
        let request = convert::request(session.config.to_string(), request);
        self.call(Call::Read, Some(session), Some(reading), move |store, source| {
            Box::pin(async move { Ok(guest_result(source.call_read(store, &request).await?)) })
        })
        .await
    }
}
