//! `edgefold ui`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::Args;
use edgefold::{Checkpoints, Log};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::log_args::LogArgs;
use super::{CliError, output};
use crate::admin::serve_page;
use crate::api::Commands;
use crate::replace::replace_file;
use crate::ui::{Page, Writing};

const EXAMPLES: &str = "\
Examples:
  edgefold ui
  edgefold ui --listen 127.0.0.1:9500 --log kafka://broker:9092/edgefold
  edgefold ui --api-tokens tokens.toml

The page is read-only, unless there are tokens: docs/page.md. It has no password, so keep it on loopback. Stops cleanly on SIGINT and SIGTERM.";

/// Show the log as a page in a browser: a map of the address space, a slider through time, and why an address is blocked
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct UiArgs {
    /// Listen here; port 0 picks a free port
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9465")]
    listen: SocketAddr,
    /// Write the address of the page to this file; useful with port 0
    #[arg(long, value_name = "FILE")]
    address_path: Option<PathBuf>,
    /// A name under which browsers may ask for the page, beside IP addresses and localhost; may be repeated
    #[arg(long = "page-host", value_name = "NAME")]
    page_hosts: Vec<String>,
    /// Let those who have one of these tokens block and allow from the page: the file of `edgefold serve --api-tokens`
    #[arg(long, value_name = "FILE")]
    api_tokens: Option<PathBuf>,
    /// Take tokens without TLS on addresses other than loopback: whoever sees the traffic can read them
    #[arg(long, requires = "api_tokens")]
    plaintext: bool,
    #[command(flatten)]
    log: LogArgs,
}

impl UiArgs {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        // Before anybody is told where the page is.
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(CliError::Signal)?;
        let log: Arc<dyn Log> = Arc::from(self.log.open()?);
        log.check()?.iter().for_each(|warning| output::say(warning));
        let commands = Arc::new(OnceLock::new());
        if let Some(tokens) = &self.api_tokens {
            let takes = Commands::start(tokens.clone(), Arc::clone(&log), None)?;
            let _set = commands.set(Arc::new(takes));
        }
        let writing = match &self.api_tokens {
            None => Writing::Off("To block and to allow from here, start edgefold ui with --api-tokens."),
            Some(_) => Writing::over(self.listen, self.plaintext, Some(&commands)),
        };
        let checkpoints = Arc::new(Checkpoints::in_memory());
        let page = Page { log, checkpoints, hosts: self.page_hosts, fleet: None, has_fleet: false, writing };
        let address =
            serve_page(self.listen, page).map_err(|source| CliError::Listen { address: self.listen, source })?;
        if let Some(path) = &self.address_path {
            replace_file(path, address.to_string().as_bytes()).map_err(CliError::file(path))?;
        }
        output::say(&format!("the page is at http://{address}/ until Ctrl-C"));
        let _signal = signals.forever().next();
        Ok(ExitCode::SUCCESS)
    }
}
