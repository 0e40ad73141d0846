//! Jars from Maven, by the user's own Maven and its settings.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Copies artifacts (`group:name:version`) and all that they need at run time into `jars`.
pub fn copy(artifacts: &[&str], jars: &Path) -> Result<()> {
    for (tool, package) in [("mvn", "maven"), ("java", "default-jre-headless")] {
        if !shell::is_installed(tool) {
            bail!("{tool} is missing: install it (Debian: apt-get install {package})");
        }
    }
    fs::create_dir_all(jars)?;
    let folder = tempfile::tempdir_in(jars).context("cannot make a temporary folder")?;
    fs::write(folder.path().join("pom.xml"), pom(artifacts)?)?;
    shell::run(
        Command::new("mvn")
            .args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"])
            .arg(format!("-DoutputDirectory={}", jars.display()))
            .current_dir(folder.path()),
    )
    .with_context(|| format!("cannot fetch {}", artifacts.join(", ")))
}

fn pom(artifacts: &[&str]) -> Result<String> {
    let mut dependencies = String::new();
    for artifact in artifacts {
        let [group, name, version] = artifact.split(':').collect::<Vec<_>>()[..] else {
            bail!("{artifact} is not group:name:version");
        };
        dependencies += &format!(
            "<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>\n"
        );
    }
    Ok(format!(
        "<project>\n<modelVersion>4.0.0</modelVersion>\n<groupId>bief</groupId><artifactId>servers</artifactId>\
         <version>1</version><packaging>pom</packaging>\n<dependencies>\n{dependencies}</dependencies>\n</project>\n"
    ))
}
