//! stub
/// x
#[derive(clap::Args)]
pub struct ConfigCommand {}
impl ConfigCommand {
    /// r
    pub fn run(self) -> std::process::ExitCode {
        std::process::ExitCode::SUCCESS
    }
}
