//! `bief completions`: writes a shell's completion script to stdout.

use std::io::Write;

use super::exit;

const EXAMPLES: &str = "\
Examples:
  bief completions bash > /usr/share/bash-completion/completions/bief
  bief completions zsh > \"${fpath[1]}/_bief\"
  bief completions fish > ~/.config/fish/completions/bief.fish";

/// Write a completion script for a shell to stdout
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl From<Shell> for clap_complete::Shell {
    fn from(shell: Shell) -> Self {
        match shell {
            Shell::Bash => Self::Bash,
            Shell::Zsh => Self::Zsh,
            Shell::Fish => Self::Fish,
        }
    }
}

/// `command` is the whole command line's.
pub fn run(args: &Args, command: &mut clap::Command, out: &mut dyn Write) -> u8 {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(clap_complete::Shell::from(args.shell), command, name, &mut script);
    match out.write_all(&script).and_then(|()| out.flush()) {
        Ok(()) => exit::OK,
        Err(error) => {
            errln!("the completion script could not be written: {error}");
            exit::FAILED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_gets_a_script_that_names_the_sub_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut command = clap::Command::new("bief").subcommand(clap::Command::new("healthcheck"));
            let mut script = Vec::new();
            assert_eq!(run(&Args { shell }, &mut command, &mut script), exit::OK);
            assert!(String::from_utf8(script).unwrap().contains("healthcheck"), "{shell:?}");
        }
    }
}
