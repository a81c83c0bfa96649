use std::fmt::Write as _;

/// Values over named places, drawn as lines.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Above the picture.
    pub title: String,
    /// Below the places.
    pub x_label: String,
    /// Beside the values.
    pub y_label: String,
    /// The places, from left to right.
    pub places: Vec<String>,
    /// The lines.
    pub series: Vec<Series>,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// One value a place; where there is none, the line has a gap.
    pub values: Vec<Option<f64>>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 220.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 56.0;
const TICKS: u32 = 5;
/// Told apart with any colour vision (Okabe and Ito).
const COLOURS: [&str; 8] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999",
];

impl Chart {
    /// The picture as SVG: one file, no scripts, no fonts of its own.
    pub fn svg(&self) -> String {
        let top = nice_above(self.highest());
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        text(&mut svg, [LEFT, 24.0], "start", &self.title);
        text(
            &mut svg,
            [f64::midpoint(LEFT, right), HEIGHT - 14.0],
            "middle",
            &self.x_label,
        );
        text(&mut svg, [LEFT, TOP - 8.0], "end", &self.y_label);
        for tick in 0..=TICKS {
            let value = top * f64::from(tick) / f64::from(TICKS);
            let y = y_of(value, top);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>"
            );
            text(&mut svg, [LEFT - 6.0, y + 4.0], "end", &number(value));
        }
        for (i, place) in self.places.iter().enumerate() {
            text(&mut svg, [self.x_of(i), bottom + 18.0], "middle", place);
        }
        for (i, series) in self.series.iter().enumerate() {
            self.draw(&mut svg, series, COLOURS[i % COLOURS.len()], top);
            let y = TOP + 18.0 * i as f64;
            let colour = COLOURS[i % COLOURS.len()];
            let _ = writeln!(
                svg,
                "<line x1=\"{}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                right + 16.0,
                right + 36.0
            );
            text(&mut svg, [right + 42.0, y + 4.0], "start", &series.name);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn draw(&self, svg: &mut String, series: &Series, colour: &str, top: f64) {
        let mut path = String::new();
        let mut pen_is_up = true;
        for (i, value) in series.values.iter().enumerate().take(self.places.len()) {
            let Some(value) = value.filter(|value| value.is_finite()) else {
                pen_is_up = true;
                continue;
            };
            let (x, y) = (self.x_of(i), y_of(value, top));
            let _ = write!(path, "{}{x:.1} {y:.1} ", if pen_is_up { 'M' } else { 'L' });
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
            );
            pen_is_up = false;
        }
        let _ = writeln!(
            svg,
            "<path d=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.trim_end()
        );
    }

    fn x_of(&self, place: usize) -> f64 {
        let step = (WIDTH - LEFT - RIGHT) / self.places.len().max(1) as f64;
        LEFT + step * (place as f64 + 0.5)
    }

    fn highest(&self) -> f64 {
        let values = self.series.iter().flat_map(|series| &series.values);
        values
            .flatten()
            .copied()
            .filter(|value| value.is_finite())
            .fold(0.0, f64::max)
    }
}

fn y_of(value: f64, top: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top
}

/// The smallest of 1, 2, 2.5, 5 times a power of ten that is not below `value`.
fn nice_above(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let nice = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power);
    let above = nice.into_iter().find(|&nice| nice >= value);
    above.unwrap_or(10.0 * power)
}

fn number(value: f64) -> String {
    let digits = if value == 0.0 || value >= 10.0 { 0 } else { 2 };
    format!("{value:.digits$}")
}

fn text(svg: &mut String, [x, y]: [f64; 2], anchor: &str, words: &str) {
    let words = words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: Vec<Option<f64>>) -> String {
        Chart {
            title: "rates <with> & without".to_owned(),
            x_label: "points".to_owned(),
            y_label: "jobs/s".to_owned(),
            places: vec!["0".to_owned(), "1".to_owned(), "2".to_owned()],
            series: vec![Series {
                name: "one".to_owned(),
                values,
            }],
        }
        .svg()
    }

    #[test]
    fn draws_gaps_and_escapes_words() {
        let svg = chart(vec![Some(10.0), None, Some(5.0)]);
        assert_eq!(svg.matches("<circle").count(), 2);
        let path = svg.lines().find(|line| line.starts_with("<path"));
        assert_eq!(path.map(|path| path.matches('M').count()), Some(2), "{svg}");
        assert!(svg.contains("rates &lt;with&gt; &amp; without"));
        // 10 is the top of the axis.
        assert!(svg.contains(&format!("cy=\"{TOP:.1}\"")), "{svg}");
    }

    #[test]
    fn draws_nothing_of_nothing() {
        let svg = chart(vec![None, Some(f64::NAN), Some(f64::INFINITY)]);
        assert_eq!(svg.matches("<circle").count(), 0);
        assert!(svg.ends_with("</svg>\n"));
    }

    #[test]
    fn axes_end_on_nice_numbers() {
        for (value, nice) in [
            (0.0, 1.0),
            (0.3, 0.5),
            (7.0, 10.0),
            (10.0, 10.0),
            (2300.0, 2500.0),
        ] {
            assert!((nice_above(value) - nice).abs() < 1e-9, "{value}");
        }
    }
}
