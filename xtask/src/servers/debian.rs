//! Debian packages unpacked into a folder of their own, with everything they need down to the C library: nothing
//! is installed, nothing outside that folder is written, no mount and no chroot. Packages come from the mirror that
//! the machine's own apt uses and are checked against the keys on this machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell;

/// Where Debian keeps the keys of its archives.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A mirror of the Debian archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    pub uri: String,
    /// File of the keys that sign it, where the machine's sources name one.
    pub signed_by: Option<PathBuf>,
}

impl Mirror {
    /// The first Debian mirror that this machine's apt uses.
    pub fn of_this_machine() -> Result<Self> {
        let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
        if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
            let mut more: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            more.sort();
            files.extend(more);
        }
        let read = |file: &PathBuf| {
            let text = fs::read_to_string(file).ok()?;
            match file.extension()?.to_str()? {
                "sources" => mirror_in_deb822(&text),
                "list" => mirror_in_list(&text),
                _ => None,
            }
        };
        files.iter().find_map(read).context(
            "none of apt's sources (/etc/apt/sources.list, /etc/apt/sources.list.d) is a Debian mirror. \
             Give running servers in BIEF_TEST_MYSQL and BIEF_TEST_MARIADB instead",
        )
    }

    fn source_line(&self, suite: &str) -> String {
        let keyring = self.signed_by.clone().unwrap_or_else(|| PathBuf::from(KEYRING));
        let options = if keyring.exists() { format!("[signed-by={}] ", keyring.display()) } else { String::new() };
        format!("deb {options}{} {suite} main\n", self.uri)
    }
}

/// A suite is the archive itself, not its updates.
fn is_main_archive(uri: &str, suites: &[&str], components: &[&str]) -> bool {
    components.contains(&"main")
        && uri.trim_end_matches('/').rsplit('/').any(|part| part == "debian")
        && suites.iter().any(|suite| !suite.contains('-') && !suite.contains('/'))
}

/// Stanzas of `Field: value`, apart by empty lines, lines that begin with a blank going on with the field above.
fn mirror_in_deb822(text: &str) -> Option<Mirror> {
    let text: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    text.split(|line| line.trim().is_empty()).find_map(|stanza| {
        let field = |name: &str| {
            let at = stanza.iter().position(|line| {
                line.split_once(':')
                    .is_some_and(|(field, _)| field.eq_ignore_ascii_case(name) && !line.starts_with([' ', '\t']))
            })?;
            let mut value = stanza[at].split_once(':')?.1.trim().to_string();
            for line in stanza[at + 1..].iter().take_while(|line| line.starts_with([' ', '\t'])) {
                value.push(' ');
                value.push_str(line.trim());
            }
            Some(value)
        };
        let (types, uris, suites, components) =
            (field("Types")?, field("URIs")?, field("Suites")?, field("Components")?);
        let words = |value: &str| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let (suites, components) = (words(&suites), words(&components));
        let suites: Vec<_> = suites.iter().map(String::as_str).collect();
        let components: Vec<_> = components.iter().map(String::as_str).collect();
        if !words(&types).contains(&"deb".to_string()) || field("Enabled").is_some_and(|e| e.eq_ignore_ascii_case("no"))
        {
            return None;
        }
        let uri = words(&uris).into_iter().find(|uri| is_main_archive(uri, &suites, &components))?;
        // It can also hold the keys themselves.
        let signed_by = field("Signed-By").filter(|value| value.starts_with('/')).map(PathBuf::from);
        Some(Mirror { uri, signed_by })
    })
}

/// Lines `deb [option=value ...] URI SUITE COMPONENT...`.
fn mirror_in_list(text: &str) -> Option<Mirror> {
    text.lines().find_map(|line| {
        let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
        let rest = rest.starts_with([' ', '\t']).then_some(rest.trim_start())?;
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let words: Vec<_> = rest.split_whitespace().collect();
        let (uri, suite, components) = (words.first()?, words.get(1)?, words.get(2..)?);
        if !is_main_archive(uri, &[suite], components) {
            return None;
        }
        let signed_by =
            options.split_whitespace().find_map(|option| option.strip_prefix("signed-by=")).map(PathBuf::from);
        Some(Mirror { uri: (*uri).to_string(), signed_by })
    })
}

/// Unpacks a package of a suite and all that it depends on into `root`, a new folder beside which there is room for
/// the downloads. Returns the package's version.
pub fn unpack(mirror: &Mirror, suite: &str, package: &str, root: &Path) -> Result<String> {
    for tool in ["apt-get", "apt-cache", "dpkg-deb", "tar"] {
        if !shell::is_installed(tool) {
            bail!("{tool} is missing: {package} comes from Debian's packages and needs Debian's tools");
        }
    }
    let beside = root.parent().context("the root has no folder")?;
    let apt = tempfile::tempdir_in(beside).context("cannot make a temporary folder")?;
    let at = |name: &str| apt.path().join(name);
    fs::create_dir_all(at("lists/partial"))?;
    fs::create_dir_all(at("cache/archives/partial"))?;
    // No package counts as installed, so that all that are needed are downloaded.
    fs::write(at("status"), "")?;
    fs::write(at("sources.list"), mirror.source_line(suite))?;
    let options = [
        format!("Dir::Etc::sourcelist={}", at("sources.list").display()),
        "Dir::Etc::sourceparts=/dev/null".into(),
        "Dir::Etc::preferences=/dev/null".into(),
        "Dir::Etc::preferencesparts=/dev/null".into(),
        format!("Dir::State::lists={}", at("lists").display()),
        format!("Dir::State::status={}", at("status").display()),
        format!("Dir::State::extended_states={}", at("extended_states").display()),
        format!("Dir::Cache={}", at("cache").display()),
        "Acquire::Languages=none".into(),
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
        // A mirror may be a snapshot of a past day.
        "Acquire::Check-Valid-Until=false".into(),
        "Acquire::Retries=3".into(),
        "APT::Sandbox::User=".into(),
        "Debug::NoLocking=true".into(),
    ];
    let with_options = |program: &str| {
        let mut command = Command::new(program);
        options.iter().for_each(|option| {
            command.args(["-o", option]);
        });
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    shell::run(with_options("apt-get").args(["update", "-qq"]))
        .with_context(|| format!("cannot read the list of packages of Debian {suite} from {}", mirror.uri))?;
    shell::run(with_options("apt-get").args(["install", "-qq", "-y", "-d", "--no-install-recommends", package]))
        .with_context(|| format!("cannot download {package} of Debian {suite} from {}", mirror.uri))?;
    let policy = shell::output(with_options("apt-cache").args(["show", "--no-all-versions", package]))?;
    let version = policy.lines().find_map(|line| line.strip_prefix("Version: ")).unwrap_or("unknown").to_string();

    for folder in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(folder))?;
        symlink(Path::new("usr").join(folder), root.join(folder))?;
    }
    let archives = at("cache/archives");
    let (mut packages, mut bytes) = (0, 0);
    for entry in fs::read_dir(&archives)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            packages += 1;
            bytes += path.metadata()?.len();
            unpack_one(&path, root)?;
        }
    }
    for unused in ["doc", "man", "locale", "info"] {
        let _ = fs::remove_dir_all(root.join("usr/share").join(unused));
    }
    eprintln!(
        "unpacked {package} {version} with what it needs: {packages} packages, {} MB downloaded",
        bytes / 1_000_000
    );
    Ok(version)
}

/// Takes the files of one package; its scripts are not run.
fn unpack_one(package: &Path, root: &Path) -> Result<()> {
    let mut tar = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run dpkg-deb")?;
    let stream = tar.stdout.take().context("dpkg-deb has no output")?;
    let unpacked = Command::new("tar")
        .args(["-x", "--no-same-owner", "--keep-directory-symlink", "-C"])
        .arg(root)
        .stdin(stream)
        .status()
        .context("cannot run tar")?;
    if !tar.wait()?.success() || !unpacked.success() {
        bail!("cannot unpack {}", package.display());
    }
    Ok(())
}

/// A command that runs a program of an unpacked root with that root's own C library.
pub fn command_in(root: &Path, program: &str) -> Command {
    command_with(root, program, &[])
}

/// The same, with more folders of the root that hold libraries.
pub fn command_with(root: &Path, program: &str, more_libraries: &[&str]) -> Command {
    let (loader, libraries) = match std::env::consts::ARCH {
        "aarch64" => ("usr/lib/ld-linux-aarch64.so.1", "usr/lib/aarch64-linux-gnu"),
        _ => ("usr/lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu"),
    };
    let folders = [libraries].into_iter().chain(more_libraries.iter().copied());
    let folders: Vec<_> = folders.map(|folder| root.join(folder).display().to_string()).collect();
    let mut command = Command::new(root.join(loader));
    command.arg("--library-path").arg(folders.join(":")).arg(root.join(program));
    command
}

/// The same for a database server, with its folders named: what is compiled in points at the system's own.
pub fn database_in(root: &Path, program: &str) -> Command {
    let mut command = command_in(root, program);
    command.arg("--no-defaults");
    for (option, path) in [
        ("basedir", "usr"),
        ("lc-messages-dir", "usr/share/mysql"),
        ("character-sets-dir", "usr/share/mysql/charsets"),
        ("plugin-dir", "usr/lib/mysql/plugin"),
    ] {
        command.arg(format!("--{option}={}", root.join(path).display()));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_read_from_deb822_sources() {
        let text = "# a note\nTypes: deb\nURIs: http://mirror.test/debian-security\nSuites: bookworm-security\n\
                    Components: main\n\nTypes: deb deb-src\nURIs:\n http://mirror.test/debian/\nSuites: bookworm bookworm-updates\n\
                    Components: main contrib\nSigned-By: /keys/debian.gpg\n";
        let expected = Mirror { uri: "http://mirror.test/debian/".into(), signed_by: Some("/keys/debian.gpg".into()) };
        assert_eq!(mirror_in_deb822(text), Some(expected));
    }

    #[test]
    fn a_stanza_that_is_switched_off_or_holds_its_keys_is_understood() {
        let off = "Types: deb\nURIs: http://a.test/debian\nSuites: sid\nComponents: main\nEnabled: no\n";
        assert_eq!(mirror_in_deb822(off), None);
        let inline =
            "Types: deb\nURIs: http://a.test/debian\nSuites: sid\nComponents: main\nSigned-By:\n -----BEGIN PGP\n .\n";
        assert_eq!(mirror_in_deb822(inline), Some(Mirror { uri: "http://a.test/debian".into(), signed_by: None }));
    }

    #[test]
    fn the_mirror_is_read_from_one_line_sources() {
        let text = "# deb http://no.test/debian sid main\ndeb-src http://no.test/debian sid main\n\
                    deb http://no.test/debian bookworm-updates main\n\
                    deb [arch=amd64 signed-by=/keys/d.gpg] https://yes.test/debian bookworm main non-free # x\n";
        let expected = Mirror { uri: "https://yes.test/debian".into(), signed_by: Some("/keys/d.gpg".into()) };
        assert_eq!(mirror_in_list(text), Some(expected));
        assert_eq!(mirror_in_list("deb http://a.test/ubuntu noble main\n"), None);
    }
}
