//! Champion and challenger: which of two versions forecasts from now on, judged by the same rows, which neither has
//! seen.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use Objection::{TooFewRows, Unfit};

use super::baselines::Baseline;
use super::drift::LEAST_ERRORS;
use super::evaluation::Table;
use super::features::matrix;
use super::model::{Evaluation, HorizonModel, ModelVersion, Refused};
use super::series::Panel;
use super::size::TooLarge;
use super::spec::{Horizon, Spec};
use super::split::embargo;

/// Rows below which two versions are not compared, unless the whole holdout has no more: as few errors tell nothing.
const LEAST_ROWS: usize = LEAST_ERRORS;

/// The same rows summed by another number of threads come to other last digits: a version is no worse than itself.
const ROUNDING: f64 = 1e-9;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the challenger is to forecast.
    pub promote: bool,
    /// Why, in a sentence.
    pub reason: String,
    pub horizons: Vec<Compared>,
}

/// One horizon of the two, over the rows that neither has seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    pub horizon: String,
    /// The first bucket of them.
    pub from: DateTime<Utc>,
    pub rows: usize,
    /// MAE, in the target's unit.
    pub challenger: f64,
    pub champion: Option<f64>,
    /// Over the challenger's whole holdout, on the rows for which persistence has a forecast: its MAE, and the challenger's.
    pub persistence: Option<(f64, f64)>,
}

/// A challenger, just trained by this panel, is promoted if at every horizon it is better than persistence on the same
/// rows, and if it is no worse than the champion over all horizons: by the mean of their ratios of MAE, as one horizon's
/// errors may be far larger than another's. A champion whose features are no longer those of the configuration does not take
/// part.
///
/// Both are judged by fits, and on rows, that neither of the fits has seen: a champion of a shorter holdout saw the beginning
/// of the challenger's. Where fewer than [`LEAST_ROWS`] are left of the challenger's holdout the champion stays, as it won its
/// place once and nothing speaks against it; with each bucket that passes there is more to compare them on.
pub fn contest(spec: &Spec, panel: &Panel, champion: Option<&ModelVersion>, challenger: &ModelVersion) -> Verdict {
    let mut horizons = Vec::with_capacity(spec.horizons.len());
    let mut objection = None;
    for horizon in &spec.horizons {
        let own = match challenger.horizon(spec, horizon) {
            Ok(own) => own,
            Err(error) => return Verdict { promote: false, reason: error.to_string(), horizons },
        };
        let mut compared = Compared {
            horizon: horizon.text.clone(),
            from: own.holdout.range.from,
            rows: own.holdout.score.rows,
            challenger: own.holdout.score.mae,
            champion: None,
            persistence: persistence(&own.holdout),
        };
        if let Some(champion) = champion {
            match compare(spec, panel, horizon, (champion, challenger)) {
                Ok(Scores { from, rows, challenger, champion }) => {
                    (compared.from, compared.rows) = (from, rows);
                    (compared.challenger, compared.champion) = (challenger, Some(champion));
                }
                // A champion that can't forecast at all does not stay, whatever else there is.
                Err(found) if matches!((&objection, &found), (None, _) | (Some(TooFewRows { .. }), Unfit(_))) => {
                    objection = Some(found);
                }
                Err(_) => {}
            }
        }
        horizons.push(compared);
    }
    let (promote, reason) = judge(&horizons, champion.map(|champion| champion.version), objection);
    Verdict { promote, reason, horizons }
}

/// Why the two can't be compared.
enum Objection {
    /// The champion can't forecast, or its keys make a table that is too large.
    Unfit(String),
    TooFewRows {
        horizon: String,
        rows: usize,
    },
}

/// MAE of the two on the same rows.
struct Scores {
    from: DateTime<Utc>,
    rows: usize,
    challenger: f64,
    champion: f64,
}

fn compare(
    spec: &Spec,
    panel: &Panel,
    horizon: &Horizon,
    (champion, challenger): (&ModelVersion, &ModelVersion),
) -> Result<Scores, Objection> {
    let (theirs, own) = (champion.horizon(spec, horizon)?, challenger.horizon(spec, horizon)?);
    let holdout = &own.holdout;
    // A forecast knows nothing of the buckets between; a fit that does has seen what it could not know.
    let unseen =
        theirs.judged.range.to.checked_add_signed(embargo(spec, horizon.buckets)).unwrap_or(DateTime::<Utc>::MAX_UTC);
    let from = holdout.range.from.max(unseen);
    let mae = |version: &ModelVersion, of: &HorizonModel| {
        let matrix = matrix(spec, panel, &version.keys, horizon.buckets, 0..panel.buckets())?;
        let table = Table { spec, panel, matrix: &matrix, horizon: horizon.buckets, threads: 1 };
        let score = table.judge(&of.judged, from).map(|evaluation| (evaluation.score.rows, evaluation.score.mae));
        Ok::<_, Objection>(score.unwrap_or((0, f64::NAN)))
    };
    let (rows, champion) = mae(champion, theirs)?;
    if rows < LEAST_ROWS.min(holdout.score.rows) {
        return Err(TooFewRows { horizon: horizon.text.clone(), rows });
    }
    let challenger = match from == holdout.range.from {
        true => holdout.score.mae,
        false => mae(challenger, own)?.1,
    };
    Ok(Scores { from, rows, challenger, champion })
}

impl From<Refused> for Objection {
    fn from(refused: Refused) -> Self {
        Unfit(refused.to_string())
    }
}

impl From<TooLarge> for Objection {
    fn from(too_large: TooLarge) -> Self {
        Unfit(too_large.to_string())
    }
}

fn persistence(evaluation: &Evaluation) -> Option<(f64, f64)> {
    let beside = evaluation.beside.iter().find(|beside| beside.baseline == Baseline::Persistence)?;
    Some((beside.score.mae, beside.model.mae))
}

fn judge(horizons: &[Compared], champion: Option<u64>, objection: Option<Objection>) -> (bool, String) {
    // What is not a number is better than nothing.
    let naive = horizons.iter().find(|of| !of.persistence.is_some_and(|(naive, own)| own < naive));
    if let Some(Compared { horizon, persistence, .. }) = naive {
        let figures = match persistence {
            Some((naive, own)) => format!("MAE {own:.4} against {naive:.4}"),
            None => "there is no row to compare them on".to_owned(),
        };
        return (false, format!("it is no better than persistence at {horizon} ahead: {figures}"));
    }
    let Some(version) = champion else { return (true, "it is better than persistence, and the first".to_owned()) };
    match objection {
        Some(Unfit(why)) => {
            return (true, format!("it is better than persistence, and the champion no longer fits: {why}"));
        }
        Some(TooFewRows { horizon, rows }) => {
            let left =
                format!("of its holdout {rows} rows at {horizon} ahead are left that version {version} has not seen");
            return (false, format!("it can't be compared with the champion yet, which stays: {left}"));
        }
        None => {}
    }
    let ratios: Vec<f64> = horizons.iter().filter_map(|of| Some(ratio(of.challenger, of.champion?))).collect();
    let ratio = ratios.iter().sum::<f64>() / ratios.len().max(1) as f64;
    let figures = format!("mean ratio of their MAE {ratio:.4}");
    match ratio <= 1.0 + ROUNDING {
        true => (true, format!("it is no worse than version {version}: {figures}")),
        false => (false, format!("it is worse than version {version}: {figures}")),
    }
}

/// Two without error are alike.
fn ratio(challenger: f64, champion: f64) -> f64 {
    if challenger == champion { 1.0 } else { challenger / champion }
}
