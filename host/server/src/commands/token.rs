//! `thimble token`.

use serde_json::json;
use thimble_control::{Role, SecretToken, check_token_name, token_digest, token_id};
use thimble_store::{Change, Store, StoreError, TokenRow};

use crate::{
    cli::Global,
    config::Span,
    context::{Context, now_ms, small_runtime},
    exit::{CliError, Exit},
    output::{Output, Table, instant},
};

/// Rows of one page of tokens.
const PAGE: u32 = 500;

/// Make, list and revoke tokens of the HTTP API.
#[derive(Debug, clap::Subcommand)]
pub enum Token {
    /// Make a token and print it, this once
    #[command(
        after_help = "Examples:\n  thimble token create ci --role operator --expires 90d\n  thimble token create board --role viewer --workspace sales"
    )]
    Create {
        /// Name of the token, which stands in the audit log for whoever uses it.
        name: String,
        /// What it may do.
        #[arg(long, value_parser = role)]
        role: Role,
        /// The only workspace that it sees [default: all of them].
        #[arg(long, value_name = "NAME")]
        workspace: Option<String>,
        /// How long it is accepted, such as 12h or 90d [default: until it is revoked].
        #[arg(long, value_name = "SPAN", value_parser = span)]
        expires: Option<Span>,
    },
    /// List the tokens, without their texts
    List,
    /// Revoke a token at once and for ever
    Revoke {
        /// Name or id of the token.
        name: String,
    },
}

fn role(word: &str) -> Result<Role, String> {
    Role::of_word(word).ok_or_else(|| "the roles are viewer, operator, author and admin".to_owned())
}

fn span(text: &str) -> Result<Span, String> {
    Span::parse(text).ok_or_else(|| "expected a span of time such as 12h or 90d".to_owned())
}

/// Runs the subcommand.
pub fn run(command: Token, global: &Global, output: Output) -> Result<(), CliError> {
    let context = match &command {
        Token::Create { .. } => Context::create(global, output, Some("warn"))?,
        _ => Context::existing(global, output)?,
    };
    small_runtime()?.block_on(async {
        let store = context.store().await?;
        match command {
            Token::Create { name, role, workspace, expires } => {
                create(&context, &store, name, role, workspace, expires).await
            }
            Token::List => list(&store, output).await,
            Token::Revoke { name } => revoke(&store, &name, output).await,
        }
    })
}

async fn create(
    context: &Context,
    store: &Store,
    name: String,
    role: Role,
    workspace: Option<String>,
    expires: Option<Span>,
) -> Result<(), CliError> {
    check_token_name(&name).map_err(|reason| CliError::new(Exit::Usage, reason))?;
    let keys = context.keys()?;
    let secret = SecretToken::generate()
        .map_err(|error| CliError::new(Exit::Failed, format!("the system gives no random bytes: {error}")))?;
    let now = now_ms();
    let row = TokenRow {
        id: token_id(&keys, secret.expose()),
        name,
        workspace,
        role: role.word().into(),
        created_at: now,
        created_by: "cli".into(),
        expires_at: expires.map(|span| now.saturating_add(i64::try_from(span.millis()).unwrap_or(i64::MAX))),
        last_used_at: None,
        revoked_at: None,
    };
    store.add_token(&row, &token_digest(&keys, secret.expose())).await?;
    note(store, "token.create", &row).await?;
    context.output.show(&json!({ "token": row, "secret": secret.expose() }), |out| {
        writeln!(out, "{}", secret.expose())?;
        writeln!(out, "token {} ({}), shown this once", row.name, row.role)
    })
}

async fn all(store: &Store) -> Result<Vec<TokenRow>, CliError> {
    let mut rows: Vec<TokenRow> = Vec::new();
    loop {
        let after = rows.last().map(|row| row.id.clone()).unwrap_or_default();
        let page = store.tokens(None, &after, PAGE).await?;
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend(page);
    }
}

async fn list(store: &Store, output: Output) -> Result<(), CliError> {
    let rows = all(store).await?;
    let now = now_ms();
    output.show(&json!({ "tokens": rows }), |out| {
        let mut table = Table::new(&["name", "role", "workspace", "state", "created", "last used", "id"]);
        for row in &rows {
            let state = match row {
                row if row.revoked_at.is_some() => "revoked",
                row if !row.is_live(now) => "expired",
                _ => "live",
            };
            table.row([
                row.name.clone(),
                row.role.clone(),
                row.workspace.clone().unwrap_or_else(|| "all".into()),
                state.into(),
                instant(row.created_at),
                row.last_used_at.map_or_else(|| "never".into(), instant),
                row.id.clone(),
            ]);
        }
        table.write(out)
    })
}

async fn revoke(store: &Store, name: &str, output: Output) -> Result<(), CliError> {
    let id = store.token_named(name).await?.map_or_else(|| name.to_owned(), |row| row.id);
    let row = match store.revoke_token(&id, now_ms()).await {
        Err(StoreError::NotFound { .. }) => {
            let message = format!("there is no live token named {name:?}");
            return Err(CliError::new(Exit::NotFound, message).hint("thimble token list"));
        }
        other => other?,
    };
    note(store, "token.revoke", &row).await?;
    output.show(&json!({ "revoked": row }), |out| writeln!(out, "revoked {}", row.name))
}

async fn note(store: &Store, action: &str, row: &TokenRow) -> Result<(), CliError> {
    let detail = json!({ "name": row.name, "role": row.role, "expires_at": row.expires_at });
    let workspace = row.workspace.as_deref();
    let change = Change { actor: "cli", action, subject: &row.id, detail: &detail, workspace };
    Ok(store.note(change, now_ms()).await?)
}
