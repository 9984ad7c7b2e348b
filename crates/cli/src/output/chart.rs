//! The chart of an incident: one track for each access path, time from left to right, one numbered
//! mark for each row of the timeline. This computes positions; the template draws them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rootwatch_core::access_path::AccessPath;
use rootwatch_core::finding::Severity;
use rootwatch_core::timeline::{Row, RowMark};

use super::text;

/// Units of the chart across; it is scaled to the page.
const WIDTH: i32 = 960;
const LEFT: i32 = 112;
const RIGHT: i32 = 24;
const TOP: i32 = 12;
/// Room for the time axis below the tracks.
const AXIS: i32 = 34;
/// Half the width of a mark, and how near two may stand on one level.
const HALF: i32 = 13;
const APART: i32 = 28;
/// Height of one level in a track, and the room above and below the levels.
const LEVEL: i32 = 28;
const PAD: i32 = 6;
/// Marks that would need more levels are drawn as one.
const LEVELS_MAX: usize = 4;
const TICKS_MAX: i64 = 8;

/// Where everything stands.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) width: i32,
    pub(crate) height: i32,
    /// Where the tracks begin and end, across.
    pub(crate) left: i32,
    pub(crate) right: i32,
    pub(crate) top: i32,
    pub(crate) bottom: i32,
    pub(crate) tracks: Vec<Track>,
    pub(crate) ticks: Vec<Tick>,
    pub(crate) dots: Vec<Dot>,
    /// The chart in a sentence, for readers who cannot see it.
    pub(crate) text: String,
}

/// One track.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) name: String,
    pub(crate) y: i32,
    pub(crate) height: i32,
    pub(crate) middle: i32,
    pub(crate) shaded: bool,
}

/// One tick of the time axis.
#[derive(Debug)]
pub(crate) struct Tick {
    pub(crate) x: i32,
    pub(crate) label: String,
}

/// One mark.
#[derive(Debug)]
pub(crate) struct Dot {
    pub(crate) x: i32,
    pub(crate) y: i32,
    /// Outline around (0, 0); the shape tells the severity.
    pub(crate) shape: &'static str,
    /// Class of the colour: `critical`.
    pub(crate) class: &'static str,
    pub(crate) failed: bool,
    /// The number of its row, or `+3` for several.
    pub(crate) label: String,
    pub(crate) title: String,
}

impl Chart {
    /// The chart of a timeline. `None` when fewer than two rows say when.
    pub(crate) fn new(rows: &[Row], zone: &TimeZone, zone_label: &str) -> Option<Self> {
        let timed: Vec<(usize, &Row, Timestamp)> = rows
            .iter()
            .enumerate()
            .filter_map(|(index, row)| Some((index, row, row.first_at?)))
            .collect();
        if timed.len() < 2 {
            return None;
        }
        let first = timed.iter().map(|(_, _, at)| *at).min()?.as_second();
        let last = timed.iter().map(|(_, row, at)| row.last_at.unwrap_or(*at)).max()?.as_second();
        let step = tick_step(last - first);
        let scale = Scale::new(first, last, step);
        let mut tracks: Vec<AccessPath> = timed.iter().map(|(_, row, _)| row.access_path).collect();
        tracks.sort_unstable();
        tracks.dedup();
        let mut dots = Vec::new();
        let mut boxes = Vec::new();
        let mut y = TOP;
        for (number, track) in tracks.iter().enumerate() {
            let mut ends: Vec<i32> = Vec::new();
            let mut placed: Vec<(usize, Dot)> = Vec::new();
            let mut here: Vec<_> =
                timed.iter().filter(|(_, row, _)| row.access_path == *track).collect();
            here.sort_by_key(|(index, _, at)| (*at, *index));
            for (index, row, at) in here {
                let x = scale.x(at.as_second());
                let free = ends.iter().position(|end| x - end >= APART);
                let level = match free {
                    Some(level) => level,
                    None if ends.len() < LEVELS_MAX => {
                        ends.push(i32::MIN / 2);
                        ends.len() - 1
                    }
                    None => {
                        if let Some((_, dot)) = placed.last_mut() {
                            dot.join(row);
                        }
                        continue;
                    }
                };
                ends[level] = x;
                placed.push((level, Dot::new(x, index + 1, row, zone)));
            }
            let levels = i32::try_from(ends.len().max(1)).unwrap_or(1);
            let height = levels * LEVEL + 2 * PAD;
            for (level, mut dot) in placed {
                let level = i32::try_from(level).unwrap_or(0);
                dot.y = y + PAD + LEVEL / 2 + level * LEVEL;
                dots.push(dot);
            }
            boxes.push(Track {
                name: track.name().to_owned(),
                y,
                height,
                middle: y + height / 2,
                shaded: number % 2 == 0,
            });
            y += height;
        }
        let text = format!(
            "{} between {} and {} {}, in {}. The table below says the same.",
            text::count(rows.len() as u64, "entry"),
            moment(first, zone),
            moment(last, zone),
            zone_label,
            text::list(&tracks.iter().map(|track| track.name()).collect::<Vec<_>>()),
        );
        Some(Self {
            width: WIDTH,
            height: y + AXIS,
            left: LEFT,
            right: WIDTH - RIGHT,
            top: TOP,
            bottom: y,
            tracks: boxes,
            ticks: scale.ticks(step, zone),
            dots,
            text,
        })
    }
}

impl Dot {
    fn new(x: i32, number: usize, row: &Row, zone: &TimeZone) -> Self {
        let (shape, class) = shape(row.severity);
        let time = row.first_at.map(|at| text::clock(at, zone)).unwrap_or_default();
        Self {
            x,
            y: 0,
            shape,
            class,
            failed: row.mark == RowMark::Failed,
            label: number.to_string(),
            title: format!("{number}. {time} {} ({})", row.what, row.severity.name()),
        }
    }

    /// Takes in another row for which there is no room.
    fn join(&mut self, row: &Row) {
        let (shape, class) = shape(row.severity);
        if rank(class) > rank(self.class) {
            (self.shape, self.class) = (shape, class);
        }
        self.failed = self.failed && row.mark == RowMark::Failed;
        let more = self.label.strip_prefix('+').and_then(|more| more.parse::<u32>().ok());
        self.label = format!("+{}", more.unwrap_or(1) + 1);
        if self.title.len() < 600 {
            self.title.push_str("; ");
            self.title.push_str(&row.what);
        }
    }
}

/// The shape and the class of a severity, also for the legend.
pub(crate) fn shape(severity: Severity) -> (&'static str, &'static str) {
    match severity {
        // An octagon, a diamond, a square, a circle and a smaller circle.
        Severity::Critical => ("M-4.6-11H4.6L11-4.6V4.6L4.6 11H-4.6L-11 4.6V-4.6Z", "critical"),
        Severity::High => ("M0-13L13 0L0 13L-13 0Z", "high"),
        Severity::Medium => ("M-9-9H9V9H-9Z", "medium"),
        Severity::Low => ("M-10 0A10 10 0 1 1 10 0A10 10 0 1 1-10 0Z", "low"),
        Severity::Informational => {
            ("M-8.5 0A8.5 8.5 0 1 1 8.5 0A8.5 8.5 0 1 1-8.5 0Z", "informational")
        }
    }
}

fn rank(class: &str) -> Option<usize> {
    Severity::ALL.iter().position(|severity| severity.name() == class)
}

/// Seconds to units across.
struct Scale {
    from: i64,
    to: i64,
}

impl Scale {
    /// Begins and ends on a tick, so that the first and the last mark have air.
    fn new(first: i64, last: i64, step: i64) -> Self {
        let from = first.div_euclid(step) * step;
        let to = (last.div_euclid(step) + 1) * step;
        Self { from, to }
    }

    fn x(&self, second: i64) -> i32 {
        let room = i64::from(WIDTH - RIGHT - LEFT - 2 * HALF);
        let at = (second - self.from).saturating_mul(room) / (self.to - self.from).max(1);
        LEFT + HALF + i32::try_from(at).unwrap_or(0)
    }

    fn ticks(&self, step: i64, zone: &TimeZone) -> Vec<Tick> {
        let days = step >= 86_400;
        let over_midnight = self.to - self.from > 86_400;
        let number = (self.to - self.from) / step;
        (0..=number.min(TICKS_MAX * 2))
            .filter_map(|index| {
                let second = self.from + index * step;
                let at = Timestamp::from_second(second).ok()?;
                let label = if days {
                    text::date(at, zone)
                } else if over_midnight {
                    at.to_zoned(zone.clone()).strftime("%m-%d %H:%M").to_string()
                } else {
                    text::clock(at, zone)
                };
                Some(Tick { x: self.x(second), label })
            })
            .collect()
    }
}

/// A round number of seconds between ticks, so that there are at most [`TICKS_MAX`] of them.
fn tick_step(secs: i64) -> i64 {
    const STEPS: [i64; 17] = [
        60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400, 172_800,
        604_800, 1_209_600, 2_592_000, 7_776_000,
    ];
    let fits = |step: &&i64| secs / **step < TICKS_MAX;
    STEPS.iter().find(fits).copied().unwrap_or_else(|| (secs / TICKS_MAX + 1).max(1))
}

fn moment(second: i64, zone: &TimeZone) -> String {
    Timestamp::from_second(second)
        .map(|at| format!("{} {}", text::date(at, zone), text::clock(at, zone)))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(second: i64, track: AccessPath, severity: Severity) -> Row {
        let at = Timestamp::from_second(1_777_900_000 + second).unwrap();
        Row {
            first_at: Some(at),
            last_at: Some(at),
            calls: 1,
            mark: RowMark::Plain,
            severity,
            access_path: track,
            what: "x".to_owned(),
            services: Vec::new(),
            addresses: Vec::new(),
            account: None,
        }
    }

    #[test]
    fn marks_never_cover_each_other() {
        let rows: Vec<Row> =
            (0..60).map(|n| row(n * 7, AccessPath::Console, Severity::Low)).collect();
        let chart = Chart::new(&rows, &TimeZone::UTC, "UTC").unwrap();
        for (index, a) in chart.dots.iter().enumerate() {
            for b in &chart.dots[index + 1..] {
                assert!(a.y != b.y || (a.x - b.x).abs() >= APART, "{a:?} {b:?}");
            }
            assert!(a.x >= chart.left && a.x <= chart.right);
            assert!(a.y >= chart.top && a.y <= chart.bottom);
        }
    }

    #[test]
    fn spans_of_any_length_get_few_round_ticks() {
        for secs in [0, 40, 700, 2_000, 40_000, 9_000_000, 400_000_000] {
            let rows = [
                row(0, AccessPath::SignIn, Severity::Low),
                row(secs, AccessPath::Console, Severity::Critical),
            ];
            let chart = Chart::new(&rows, &TimeZone::UTC, "UTC").unwrap();
            assert!((2..=10).contains(&chart.ticks.len()), "{secs}: {}", chart.ticks.len());
        }
    }

    #[test]
    fn one_row_needs_no_chart() {
        let rows = [row(0, AccessPath::SignIn, Severity::Low)];
        assert!(Chart::new(&rows, &TimeZone::UTC, "UTC").is_none());
    }
}
