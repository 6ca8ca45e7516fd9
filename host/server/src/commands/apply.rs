//! `thimble apply`.

use std::path::PathBuf;

use http::Method;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    api_client::ApiClient,
    apply::{
        self, Wanted,
        plan::{Action, Kind, Step, Stored, plan},
    },
    cli::Global,
    context::{load_config, small_runtime},
    data_folder::token_in,
    exit::{CliError, Exit},
    output::Output,
    prompt,
};

/// Bring a server to what files say.
///
/// The files hold `grants`, `sources`, `destinations`, `connections` and `notifiers`. What differs is shown first; on a
/// terminal it asks before anything is changed. `${VAR}` stands for a variable of the environment.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  thimble apply -f thimble.d/                   all files of a folder\n  thimble apply -f shop.yaml --plan             only show what would change\n  thimble apply -f thimble.d/ --prune --yes     delete what the files do not hold\n  thimble apply --schema > apply.schema.json    for editors"
)]
pub struct Apply {
    /// File (YAML, TOML, JSON, `-` for standard input) or folder; may be given several times.
    #[arg(long = "file", short = 'f', value_name = "PATH", required_unless_present = "schema")]
    files: Vec<PathBuf>,
    /// Show what would change, and change nothing.
    #[arg(long)]
    plan: bool,
    /// Delete what the server has and the files do not hold.
    #[arg(long)]
    prune: bool,
    /// Change without a question.
    #[arg(long, short)]
    yes: bool,
    /// Print the JSON Schema of the files.
    #[arg(long)]
    schema: bool,
    #[command(flatten)]
    server: Server,
}

/// Which server, and the token to ask it with.
#[derive(Debug, clap::Args)]
pub struct Server {
    /// URL of the server [default: the configuration's `listen`].
    #[arg(long, value_name = "URL", env = "THIMBLE_SERVER")]
    server: Option<String>,
    /// File with the token [default: THIMBLE_TOKEN, or `api-token` in the data folder].
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Server {
    /// A client of it.
    pub fn client(&self, global: &Global) -> Result<ApiClient, CliError> {
        let (config, _, data) = load_config(global)?;
        let server = self.server.clone().unwrap_or_else(|| format!("http://{}", config.listen.0));
        let token = match (&self.token_file, std::env::var("THIMBLE_TOKEN")) {
            (None, Ok(token)) => SecretString::from(token.trim()),
            (file, _) => {
                let file = file.clone().or(config.api.token_file).unwrap_or_else(|| data.join("api-token"));
                token_in(&file)?
            }
        };
        Ok(ApiClient::new(&server, token))
    }
}

/// Applies.
pub fn run(arguments: &Apply, global: &Global, output: Output) -> Result<(), CliError> {
    if arguments.schema {
        let schema = apply::schema();
        return output.show(&schema, |out| writeln!(out, "{schema:#}"));
    }
    let mut wanted = Wanted::default();
    for file in &arguments.files {
        wanted.join(Wanted::read(file)?.placed()?, file)?;
    }
    let client = arguments.server.client(global)?;
    small_runtime()?.block_on(async {
        let stored = stored(&client, &wanted).await?;
        let steps = plan(&wanted, &stored, arguments.prune);
        let changing: Vec<&Step> = steps.iter().filter(|step| step.action != Action::Unchanged).collect();
        if output.is_text() || arguments.plan {
            show(&steps, output)?;
        }
        if arguments.plan || changing.is_empty() {
            return Ok(());
        }
        let asked = |error| CliError::io("the question cannot be asked", &error);
        if !arguments.yes && !prompt::confirm("Apply this?").map_err(asked)?.unwrap_or(false) {
            return Err(CliError::new(Exit::Refused, "nothing was changed").hint("--yes changes without a question"));
        }
        for step in &changing {
            carry_out(&client, step).await?;
        }
        let done = json!({ "applied": changing.len(), "steps": steps });
        output.show(&done, |out| writeln!(out, "{} changes applied", changing.len()))
    })
}

/// What the server has of the kinds that matter.
async fn stored(client: &ApiClient, wanted: &Wanted) -> Result<Stored, CliError> {
    let mut stored = Stored::default();
    for plugin in wanted.grants.keys() {
        let answer = client.ask(Method::GET, &format!("/plugins/{plugin}/grants"), None).await?.ok_or_else(|| {
            CliError::new(Exit::NotFound, format!("the plugin `{plugin}` of `grants` is not installed"))
                .hint("install it first: POST /api/v1/plugins, or `thimble plugin install`")
        })?;
        let hosts = answer.get("grants").and_then(Value::as_array).into_iter().flatten();
        stored.grants.insert(plugin.clone(), hosts.filter_map(|host| host.as_str().map(str::to_owned)).collect());
    }
    for kind in Kind::NAMED {
        let into = match kind {
            Kind::Source => &mut stored.sources,
            Kind::Destination => &mut stored.destinations,
            Kind::Connection => &mut stored.connections,
            Kind::Notifier => &mut stored.notifiers,
            Kind::Grants => continue,
        };
        for item in client.list(kind.path()).await? {
            let name = item.get("name").or(item.get("id")).and_then(Value::as_str);
            if let Some(name) = name.map(str::to_owned) {
                into.insert(name, item);
            }
        }
    }
    Ok(stored)
}

fn show(steps: &[Step], output: Output) -> Result<(), CliError> {
    output.show(&json!({ "steps": steps }), |out| {
        for step in steps {
            let sign = match step.action {
                Action::Create => "+",
                Action::Update => "~",
                Action::Delete => "-",
                Action::Unchanged => continue,
            };
            writeln!(out, "{sign} {} {}", step.kind.word(), step.name)?;
            for change in &step.changes {
                writeln!(out, "    {change}")?;
            }
        }
        let count = |action| steps.iter().filter(|step| step.action == action).count();
        writeln!(
            out,
            "{} to create, {} to change, {} to delete, {} as they should be",
            count(Action::Create),
            count(Action::Update),
            count(Action::Delete),
            count(Action::Unchanged)
        )
    })
}

async fn carry_out(client: &ApiClient, step: &Step) -> Result<(), CliError> {
    let path = match step.kind {
        Kind::Grants => format!("/plugins/{}/grants", step.name),
        kind => format!("{}/{}", kind.path(), step.name),
    };
    let answer = match step.action {
        Action::Create | Action::Update => client.ask(Method::PUT, &path, Some(&step.body)).await,
        Action::Delete => client.ask(Method::DELETE, &path, None).await,
        Action::Unchanged => return Ok(()),
    };
    answer.map(drop).map_err(|mut error| {
        error.message = format!("{} {}: {}", step.kind.word(), step.name, error.message);
        error
    })
}
