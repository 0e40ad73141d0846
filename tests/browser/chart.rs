//! What a chart shows, read as a reader does: the numbers of the table beside it, and what is drawn on its canvas.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::driver::Page;

/// Numbers by line and bucket, out of the table beside a chart.
pub type Numbers = BTreeMap<(DateTime<Utc>, String), i64>;

/// The same with decimals, as far as the page shows them.
pub type Figures = BTreeMap<(DateTime<Utc>, String), f64>;

/// [`figures`] that are all whole.
pub fn numbers(page: &Page, within: &str) -> Numbers {
    let whole = |number: f64| {
        assert_eq!(number.fract(), 0.0);
        number as i64
    };
    figures(page, within).into_iter().map(|(at, number)| (at, whole(number))).collect()
}

/// All that the table in this part of the page holds, its older rows too. Buckets come as the page keeps them, in ms.
pub fn figures(page: &Page, within: &str) -> Figures {
    let script = format!(
        "const table = document.querySelector({} + ' .numbers-table');
         for (let more = table.querySelector('.more'); !more.hidden; ) more.click();
         const names = Array.from(table.querySelectorAll('thead th'), (th) => th.textContent).slice(1);
         return Array.from(table.querySelectorAll('tbody tr'), (tr) => [tr.dataset.key, names,
           Array.from(tr.querySelectorAll('td'), (td) => td.textContent)]);",
        json!(within)
    );
    let mut numbers = Figures::new();
    for row in page.js(&script).as_array().unwrap() {
        let bucket = DateTime::from_timestamp_millis(row[0].as_str().unwrap().parse().unwrap()).unwrap();
        for (name, cell) in row[1].as_array().unwrap().iter().zip(row[2].as_array().unwrap()) {
            let text = cell.as_str().unwrap().replace(',', "").replace('−', "-");
            if !text.is_empty() {
                numbers.insert((bucket, name.as_str().unwrap().to_owned()), text.parse().unwrap());
            }
        }
    }
    numbers
}

/// A place on a chart, in pixels of the view, and the colour that is drawn there.
#[derive(Debug, Clone)]
pub struct Spot {
    pub x: f64,
    pub y: f64,
    /// Of the pixels within two of it: those that have the line's colour.
    pub drawn: u64,
}

/// Where the cursor's mark of line `at` stands, and whether the line is drawn there in its colour.
pub fn spot(page: &Page, within: &str, at: usize) -> Spot {
    let script = format!(
        "const part = document.querySelector({});
         const canvas = part.querySelector('canvas');
         const mark = part.querySelectorAll('.u-cursor-pt')[{at}].getBoundingClientRect();
         const [x, y] = [mark.left + mark.width / 2, mark.top + mark.height / 2];
         const box = canvas.getBoundingClientRect();
         const ratio = canvas.width / box.width;
         const near = canvas.getContext('2d').getImageData((x - box.left - 2) * ratio, (y - box.top - 2) * ratio, 5 * ratio, 5 * ratio).data;
         const probe = document.createElement('canvas').getContext('2d');
         probe.fillStyle = part.querySelectorAll('.swatch line')[{at}].getAttribute('stroke');
         probe.fillRect(0, 0, 1, 1);
         const wanted = probe.getImageData(0, 0, 1, 1).data;
         let drawn = 0;
         for (let i = 0; i < near.length; i += 4) {{
           if (near[i + 3] > 200 && [0, 1, 2].every((c) => Math.abs(near[i + c] - wanted[c]) < 24)) drawn += 1;
         }}
         return [x, y, drawn];",
        json!(within)
    );
    let told = page.js(&script);
    Spot { x: told[0].as_f64().unwrap(), y: told[1].as_f64().unwrap(), drawn: told[2].as_u64().unwrap() }
}

/// The box of an element in pixels of the view: left, top, width, height.
pub fn place(page: &Page, selector: &str) -> [f64; 4] {
    let script = format!(
        "const element = document.querySelector({});
         element.scrollIntoView({{ block: 'center' }});
         const box = element.getBoundingClientRect();
         return [box.left, box.top, box.width, box.height];",
        json!(selector)
    );
    let told = page.js(&script);
    [0, 1, 2, 3].map(|at| told[at].as_f64().unwrap())
}

/// How many pixels of a canvas are not empty.
pub fn inked(page: &Page, selector: &str) -> u64 {
    let script = format!(
        "const canvas = document.querySelector({});
         const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
         let inked = 0;
         for (let i = 3; i < data.length; i += 4) if (data[i] > 0) inked += 1;
         return inked;",
        json!(selector)
    );
    page.js(&script).as_u64().unwrap()
}

/// A CSV file with quotes only where they are needed, as rows of cells.
pub fn csv(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
}
