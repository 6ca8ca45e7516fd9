//! Serves fixtures for the demo and the bench: `thimble-fixtures files DIR --port N`, `thimble-fixtures pages --records N`.

use clap::{Parser, Subcommand};
use thimble_fixtures::{files::FileServer, pages::PageServer};

#[derive(Parser)]
#[command(about = "Servers on the loopback interface for the demo and the bench")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Serves a folder.
    Files {
        folder: std::path::PathBuf,
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
    /// Serves a paged JSON API.
    Pages {
        #[arg(long, default_value_t = 200_000)]
        records: u64,
        #[arg(long, default_value_t = 1_000)]
        per_page: u64,
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let url = match Cli::parse().what {
        What::Files { folder, port } => FileServer::start(folder, port).await?.url(""),
        What::Pages { records, per_page, port } => PageServer::start(records, per_page, port).await?.url(),
    };
    println!("{url}");
    tokio::signal::ctrl_c().await
}
