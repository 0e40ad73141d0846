//! Names of aggregates on a command line.

use super::exit;
use super::support::fail;
use crate::config::Config;

/// Refuses names that the configuration does not have, and one without aggregates at all; the exit code then.
pub fn known(config: &Config, names: &[String], json: bool) -> Result<(), u8> {
    let there: Vec<&str> = config.aggregates.iter().map(|aggregate| aggregate.name.as_str()).collect();
    let refuse = |words: String| {
        fail(json, &words);
        Err(exit::USAGE)
    };
    if there.is_empty() {
        return refuse("the configuration has no [[aggregate]]: there are no documents to compute".to_owned());
    }
    match names.iter().find(|name| !there.contains(&name.as_str())) {
        Some(unknown) => refuse(format!("there is no aggregate `{unknown}`: there are {}", there.join(", "))),
        None => Ok(()),
    }
}
