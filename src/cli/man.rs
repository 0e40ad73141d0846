//! `bief man`: writes the manual pages, one a command, from the same text as `--help`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::exit;

const EXAMPLES: &str = "\
Examples:
  bief man | man -l -
  bief man --to /usr/local/share/man/man1";

/// Write the manual pages
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder for one page a command; made if it is not there [default: the main page to stdout]
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
}

/// `command` is the whole command line's.
pub fn run(args: &Args, command: clap::Command, out: &mut dyn Write) -> u8 {
    let written = match &args.to {
        None => clap_mangen::Man::new(command.disable_help_subcommand(true)).render(out).and_then(|()| out.flush()),
        Some(folder) => write_pages(command, folder),
    };
    match written {
        Ok(()) => exit::OK,
        Err(error) => {
            let to = args.to.as_ref().map_or("stdout".to_owned(), |folder| folder.display().to_string());
            errln!("the manual pages could not be written to {to}: {error}");
            exit::FAILED
        }
    }
}

fn write_pages(command: clap::Command, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> clap::Command {
        clap::Command::new("bief").about("does it").subcommand(
            clap::Command::new("dead-letters").about("set aside").subcommand(clap::Command::new("list").about("lists")),
        )
    }

    #[test]
    fn there_is_a_page_for_each_command_at_any_depth() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("new/man1");
        assert_eq!(run(&Args { to: Some(to.clone()) }, command(), &mut io::sink()), exit::OK);
        for page in ["bief.1", "bief-dead-letters.1", "bief-dead-letters-list.1"] {
            assert!(std::fs::read_to_string(to.join(page)).unwrap().contains(".SH NAME"), "{page}");
        }
    }

    #[test]
    fn without_a_folder_the_main_page_goes_to_stdout() {
        let mut page = Vec::new();
        assert_eq!(run(&Args { to: None }, command(), &mut page), exit::OK);
        assert!(String::from_utf8(page).unwrap().contains("does it"));
    }
}
