//! `cargo xtask screenshots`: the page of a real demo, each tab in dark and light, into `docs/images/`. The demo runs as a
//! user runs it; some records are sent beside it, so that something comes in and some of it is set aside.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use serde_json::json;

use crate::browser::{Driver, Page};
use crate::demo::Demo;
use crate::shell;

#[derive(Args)]
pub struct Arguments {
    /// A binary to run instead of building one.
    #[arg(long, value_name = "PATH")]
    bief: Option<PathBuf>,
    /// Where the pictures go.
    #[arg(long, value_name = "FOLDER", default_value = "docs/images")]
    to: PathBuf,
}

const WIDTH: u32 = 1280;
/// Of a picture; what is below is more of the same.
const MOST_HEIGHT: f64 = 1400.0;

/// A tab's picture: its name, the view, and what must be there first.
const VIEWS: [(&str, &str, &str); 5] = [
    (
        "live",
        "#live",
        "document.querySelector('.panel-line canvas') && document.querySelectorAll('#records details').length > 9",
    ),
    (
        "explore",
        "#explore?aggregate=departures_hourly&values=flights,mean_dep_delay&by=origin&range=7d",
        "document.querySelectorAll('.explore-chart canvas').length === 2",
    ),
    ("pipeline", "#pipeline", "document.querySelectorAll('.ledger tbody tr').length > 3"),
    ("letters", "#letters", "document.querySelector('#letter mark')"),
    (
        "models",
        "#models?forecast=departure_delay&horizon=1h&range=7d",
        "document.querySelector('#models-plot canvas') && document.querySelector('table.versions tbody tr')",
    ),
];

pub fn run(arguments: &Arguments) -> Result<()> {
    let driver = Driver::start().map_err(|why| anyhow!("no pictures can be taken: {why}"))?;
    let taken = take(arguments, &driver);
    driver.end();
    taken
}

fn take(arguments: &Arguments, driver: &Driver) -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let bief = match &arguments.bief {
        Some(path) => path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?,
        None => {
            let built = shell::cargo().args(["build", "--release", "--bin", "bief"]).current_dir(workspace).status();
            ensure!(built.context("cannot run cargo")?.success(), "bief does not build");
            shell::target_folder()?.join("release/bief")
        }
    };
    let folder = tempfile::tempdir()?;
    let demo = Demo::start(&bief, workspace, folder.path())?;
    demo.wait_computed()?;
    demo.train()?;
    let spoilt = demo.spoil()?;
    eprintln!("{spoilt} records that can't be written were sent");
    let _flow = demo.flow()?;
    let to = workspace.join(&arguments.to);
    std::fs::create_dir_all(&to)?;
    let page = driver.page();
    for scheme in ["light", "dark"] {
        page.prefer(scheme);
        for (name, hash, there) in VIEWS {
            page.size(WIDTH, 900);
            page.open("about:blank");
            page.open(&format!("http://{}/{hash}", demo.http));
            page.wait(&format!("{name} there"), there);
            shoot(&page, &to.join(format!("page-{name}-{scheme}.png")))?;
        }
    }
    page.prefer("dark");
    page.size(390, 844);
    page.open("about:blank");
    page.open(&format!("http://{}/#live", demo.http));
    page.wait("live there", VIEWS[0].2);
    shoot(&page, &to.join("page-phone-dark.png"))
}

/// The whole page, down to where it is more of the same.
fn shoot(page: &Page, path: &Path) -> Result<()> {
    // What has just come in is lit up for a moment.
    std::thread::sleep(Duration::from_secs(3));
    let size = page.js("return [innerWidth, document.documentElement.scrollHeight]");
    let (width, height) = (size[0].as_f64().unwrap_or(f64::from(WIDTH)), size[1].as_f64().unwrap_or(MOST_HEIGHT));
    let clip = json!({ "x": 0, "y": 0, "width": width, "height": height.min(MOST_HEIGHT), "scale": 1 });
    let parameters = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
    let picture = page.devtools("Page.captureScreenshot", parameters);
    let bytes = unpacked(picture["data"].as_str().context("no picture")?).context("the picture is no base64")?;
    std::fs::write(path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{} ({} KiB)", path.display(), bytes.len() / 1024);
    Ok(())
}

/// Bytes of a text in base64.
fn unpacked(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut held, mut bits) = (0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::unpacked;

    #[test]
    fn base64_is_unpacked_whatever_its_length() {
        assert_eq!(unpacked("YmllZg==").as_deref(), Some(&b"bief"[..]));
        assert_eq!(unpacked("YmllZiE=").as_deref(), Some(&b"bief!"[..]));
        assert_eq!(unpacked("AP8B").as_deref(), Some(&[0, 255, 1][..]));
        assert_eq!(unpacked("?"), None);
    }
}
