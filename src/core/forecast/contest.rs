//! Champion and challenger: which of two versions forecasts from now on, judged by the same holdout.

use serde::{Deserialize, Serialize};

use super::baselines::Baseline;
use super::evaluation::Table;
use super::features::matrix;
use super::model::{Evaluation, ModelVersion};
use super::series::Panel;
use super::spec::Spec;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the challenger is to forecast.
    pub promote: bool,
    /// Why, in a sentence.
    pub reason: String,
    pub horizons: Vec<Compared>,
}

/// One horizon of the two, over the challenger's holdout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    pub horizon: String,
    pub rows: usize,
    /// MAE, in the target's unit.
    pub challenger: f64,
    pub champion: Option<f64>,
    /// On the rows for which persistence has a forecast: its MAE, and the challenger's.
    pub persistence: Option<(f64, f64)>,
}

/// A challenger, just trained by this panel, is promoted if at every horizon it is better than persistence on the same
/// rows, and if it is no worse than the champion over all horizons: by the mean of their ratios of MAE, as one horizon's
/// errors may be far larger than another's. Both are judged by fits that have not seen the holdout; a champion whose
/// features are no longer those of the configuration does not take part.
pub fn contest(spec: &Spec, panel: &Panel, champion: Option<&ModelVersion>, challenger: &ModelVersion) -> Verdict {
    let mut horizons = Vec::with_capacity(spec.horizons.len());
    let mut refused = None;
    for horizon in &spec.horizons {
        let of = match challenger.horizon(spec, horizon) {
            Ok(of) => of,
            Err(error) => return Verdict { promote: false, reason: error.to_string(), horizons },
        };
        let incumbent = champion.and_then(|champion| {
            let model = champion.horizon(spec, horizon).map_err(|error| refused = Some(error.to_string())).ok()?;
            let matrix = matrix(spec, panel, &champion.keys, horizon.buckets, 0..panel.buckets());
            let table = Table { spec, panel, matrix: &matrix, horizon: horizon.buckets, threads: 1 };
            table.judge(&model.judged, of.holdout.range.from)
        });
        horizons.push(Compared {
            horizon: horizon.text.clone(),
            rows: of.holdout.score.rows,
            challenger: of.holdout.score.mae,
            champion: incumbent.map(|evaluation| evaluation.score.mae),
            persistence: persistence(&of.holdout),
        });
    }
    let (promote, reason) = judge(&horizons, champion.map(|champion| champion.version), refused);
    Verdict { promote, reason, horizons }
}

fn persistence(evaluation: &Evaluation) -> Option<(f64, f64)> {
    let beside = evaluation.beside.iter().find(|beside| beside.baseline == Baseline::Persistence)?;
    Some((beside.score.mae, beside.model.mae))
}

fn judge(horizons: &[Compared], champion: Option<u64>, refused: Option<String>) -> (bool, String) {
    // Not a number is never better.
    let naive = horizons.iter().find(|of| of.persistence.is_none_or(|(naive, own)| !(own < naive)));
    if let Some(Compared { horizon, persistence, .. }) = naive {
        let figures = match persistence {
            Some((naive, own)) => format!("MAE {own:.4} against {naive:.4}"),
            None => "there is no row to compare them on".to_owned(),
        };
        return (false, format!("it is no better than persistence at {horizon} ahead: {figures}"));
    }
    let Some(version) = champion else { return (true, "it is better than persistence, and the first".to_owned()) };
    if let Some(refused) = refused {
        return (true, format!("it is better than persistence, and the champion no longer fits: {refused}"));
    }
    let ratios: Vec<f64> = horizons.iter().filter_map(|of| Some(ratio(of.challenger, of.champion?))).collect();
    let ratio = ratios.iter().sum::<f64>() / ratios.len().max(1) as f64;
    let figures = format!("mean ratio of their MAE {ratio:.4}");
    match ratio <= 1.0 {
        true => (true, format!("it is no worse than version {version}: {figures}")),
        false => (false, format!("it is worse than version {version}: {figures}")),
    }
}

/// Two without error are alike.
fn ratio(challenger: f64, champion: f64) -> f64 {
    if challenger == champion { 1.0 } else { challenger / champion }
}
