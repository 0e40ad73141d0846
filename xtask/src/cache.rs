//! The folder in which fetched servers stay between runs, outside `target/`, so that `cargo clean` keeps it.
//! A thing is in the cache whole or not at all: it is made under a temporary name and renamed when it is done.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Begins the name of what is still being made; the number of the process that makes it follows.
const PARTIAL: &str = ".partial-";

/// Where fetched servers are kept.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `$BIEF_CACHE`, else `$XDG_CACHE_HOME/bief`, else `~/.cache/bief`; made where it is missing.
    pub fn open() -> Result<Self> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = set("BIEF_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("bief")))
            .or_else(|| set("HOME").map(|home| home.join(".cache/bief")))
            .context("no folder to keep the servers in: set BIEF_CACHE to one")?;
        fs::create_dir_all(&root)
            .with_context(|| format!("cannot make the cache folder {}: set BIEF_CACHE to another", root.display()))?;
        let root = root.canonicalize().with_context(|| format!("cannot resolve {}", root.display()))?;
        Ok(Self { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of this name where it is whole.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let path = self.root.join(name);
        path.is_dir().then_some(path)
    }

    /// The folder of this name; `make` fills an empty one first where there is none yet.
    pub fn get_or_make(&self, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        if let Some(path) = self.find(name) {
            return Ok(path);
        }
        self.remove_abandoned()?;
        let partial = self.root.join(format!("{PARTIAL}{}-{name}", std::process::id()));
        fs::create_dir(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
        if let Err(error) = make(&partial) {
            let _ = fs::remove_dir_all(&partial);
            return Err(error);
        }
        let path = self.root.join(name);
        match fs::rename(&partial, &path) {
            Ok(()) => Ok(path),
            // Another process was quicker: its folder is as good as ours.
            Err(_) if path.is_dir() => {
                let _ = fs::remove_dir_all(&partial);
                Ok(path)
            }
            Err(error) => Err(error).with_context(|| format!("cannot rename {} into place", partial.display())),
        }
    }

    /// Removes what processes left half made that no longer run.
    fn remove_abandoned(&self) -> Result<()> {
        for entry in fs::read_dir(&self.root).with_context(|| format!("cannot list {}", self.root.display()))? {
            let entry = entry?;
            let name = entry.file_name();
            let maker =
                name.to_str().and_then(|name| name.strip_prefix(PARTIAL)).and_then(|rest| rest.split('-').next());
            if let Some(maker) = maker
                && !Path::new("/proc").join(maker).exists()
            {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(folder: &Path) -> Cache {
        Cache { root: folder.to_path_buf() }
    }

    #[test]
    fn a_failed_fetch_leaves_nothing_that_is_taken_for_whole() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        let failed = cache.get_or_make("server", |path| {
            fs::write(path.join("half"), "x")?;
            anyhow::bail!("the line went dead")
        });
        assert!(failed.is_err());
        assert_eq!(cache.find("server"), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_there_is_not_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        let first = cache.get_or_make("server", |path| Ok(fs::write(path.join("a"), "x")?)).unwrap();
        let second = cache.get_or_make("server", |_| anyhow::bail!("must not be called")).unwrap();
        assert_eq!(first, second);
    }

    #[test]
    fn what_a_dead_process_left_half_made_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        // Linux numbers processes up to 2^22.
        let abandoned = folder.path().join(".partial-99999999-server");
        fs::create_dir(&abandoned).unwrap();
        cache(folder.path()).get_or_make("server", |_| Ok(())).unwrap();
        assert!(!abandoned.exists());
    }
}
