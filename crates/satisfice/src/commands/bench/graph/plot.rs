//! Latency against accuracy, drawn.

use super::{
    Report,
    table::{Line, lines},
};
use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
/// Left, right, top and bottom.
const MARGINS: [f64; 4] = [64.0, 190.0, 36.0, 52.0];
const OURS: &str = "#0b7285";
const PEER: &str = "#c92a2a";

/// One picture for each batch size at which accuracies are known.
pub(super) fn plots(report: &Report) -> Vec<(usize, String)> {
    let lines = lines(report);
    let mut batches: Vec<usize> = lines.iter().map(|line| line.batch).collect();
    batches.dedup();
    let picture = |batch: usize| {
        let of_batch = lines.iter().filter(|line| line.batch == batch);
        let points: Vec<(&Line<'_>, f64)> = of_batch
            .filter_map(|line| Some((line, 100.0 * line.accuracy?)))
            .collect();
        let title = format!("{}, batches of {batch}: dot p50, line to p99", report.model);
        (!points.is_empty()).then(|| (batch, svg(&title, &points)))
    };
    batches.into_iter().filter_map(picture).collect()
}

/// From values to places on the picture: powers of ten of milliseconds, per cent.
struct Axes {
    x: (f64, f64),
    y: (f64, f64),
}

impl Axes {
    fn around(points: &[(&Line<'_>, f64)]) -> Self {
        let bounds = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::MAX, f64::MIN), |(low, high), v| {
                (low.min(v), high.max(v))
            })
        };
        let latencies = |at: usize| {
            points
                .iter()
                .map(move |(line, _)| line.latency_ms[at].max(1e-3))
        };
        let (left, right) = bounds(&mut latencies(0).chain(latencies(2)));
        let (low, high) = bounds(&mut points.iter().map(|&(_, accuracy)| accuracy));
        let pad = ((high - low) * 0.08).max(0.25);
        Self {
            x: (
                left.log10().floor(),
                right.log10().ceil().max(left.log10().floor() + 1.0),
            ),
            y: (low - pad, high + pad),
        }
    }

    fn x(&self, milliseconds: f64) -> f64 {
        let share = (milliseconds.max(1e-3).log10() - self.x.0) / (self.x.1 - self.x.0);
        MARGINS[0] + share * (WIDTH - MARGINS[0] - MARGINS[1])
    }

    fn y(&self, accuracy: f64) -> f64 {
        let share = (accuracy - self.y.0) / (self.y.1 - self.y.0);
        HEIGHT - MARGINS[3] - share * (HEIGHT - MARGINS[2] - MARGINS[3])
    }

    fn draw(&self, svg: &mut String) {
        let (left, right) = (MARGINS[0], WIDTH - MARGINS[1]);
        let (top, bottom) = (MARGINS[2], HEIGHT - MARGINS[3]);
        for power in self.x.0 as i32..=self.x.1 as i32 {
            let x = self.x(10_f64.powi(power));
            let label = 10_f64.powi(power);
            let _ = write!(
                svg,
                "<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"#dee2e6\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
                bottom + 18.0
            );
        }
        for step in 0..=4 {
            let accuracy = self.y.0 + (self.y.1 - self.y.0) * f64::from(step) / 4.0;
            let y = self.y(accuracy);
            let _ = write!(
                svg,
                "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#dee2e6\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{accuracy:.1}</text>",
                left - 8.0,
                y + 4.0
            );
        }
        let _ = write!(
            svg,
            "<text x=\"{:.0}\" y=\"{}\" text-anchor=\"middle\">milliseconds a batch</text>\
             <text x=\"16\" y=\"{:.0}\" text-anchor=\"middle\" transform=\"rotate(-90 16 {:.0})\">\
             accuracy, %</text>",
            f64::midpoint(left, right),
            HEIGHT - 12.0,
            f64::midpoint(top, bottom),
            f64::midpoint(top, bottom)
        );
    }
}

fn svg(title: &str, points: &[(&Line<'_>, f64)]) -> String {
    let axes = Axes::around(points);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#212529\">\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
         <text x=\"{}\" y=\"20\" font-size=\"14\">{}</text>",
        MARGINS[0],
        escaped(title)
    );
    axes.draw(&mut svg);
    let mut labels = Vec::new();
    for (line, accuracy) in points {
        let (x, tail, y) = (
            axes.x(line.latency_ms[0]),
            axes.x(line.latency_ms[2]),
            axes.y(*accuracy),
        );
        let color = if line.ours { OURS } else { PEER };
        let _ = write!(
            svg,
            "<path d=\"M{x:.1} {y:.1}H{tail:.1}\" stroke=\"{color}\" stroke-width=\"1.5\"/>\
             <circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{color}\"/>"
        );
        labels.push(Label {
            from: (tail, y),
            y,
            name: format!("{}{}", line.name, line.place),
            color,
        });
    }
    place_labels(&mut labels);
    let column = WIDTH - MARGINS[1] + 12.0;
    for Label {
        from: (x, from_y),
        y,
        name,
        color,
    } in labels
    {
        let _ = write!(
            svg,
            "<path d=\"M{:.1} {from_y:.1}L{:.1} {y:.1}\" stroke=\"{color}\" stroke-width=\"0.5\" \
             opacity=\"0.4\"/><text x=\"{column}\" y=\"{:.1}\" fill=\"{color}\">{}</text>",
            x + 3.0,
            column - 4.0,
            y + 4.0,
            escaped(&name)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// The name of a point, in a column beside the picture.
struct Label {
    /// Where its line begins.
    from: (f64, f64),
    y: f64,
    name: String,
    color: &'static str,
}

/// Spreads labels in their column so that none covers another: first downwards, then back up from
/// the bottom.
fn place_labels(labels: &mut [Label]) {
    const GAP: f64 = 14.0;
    labels.sort_by(|a, b| a.y.total_cmp(&b.y));
    let mut above = MARGINS[2] - GAP;
    for label in labels.iter_mut() {
        label.y = label.y.max(above + GAP);
        above = label.y;
    }
    let mut below = HEIGHT;
    for label in labels.iter_mut().rev() {
        label.y = label.y.min(below - GAP);
        below = label.y;
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
