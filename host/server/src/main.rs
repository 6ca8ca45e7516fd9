//! The `thimble` binary.

fn main() -> std::process::ExitCode {
    thimble_server::run(std::env::args_os())
}
