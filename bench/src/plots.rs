//! The plots of `docs/benchmarks.md`.

use std::error::Error;
use std::fs;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::contenders::{BRANCHY, EDGEFOLD, PARTITION_POINT};
use crate::measure::{Host, Measured, Row, WAYS};
use crate::report::Results;
use crate::shapes::Shape;
use crate::wasm::Simd;

const SIZE: (u32, u32) = (900, 560);
const SIZES: [&str; 4] = ["1k", "100k", "1M", "10M"];
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(130, 130, 130),
    RGBColor(190, 160, 0),
];

type Drawn = Result<(), Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws all plots.
pub(crate) fn draw(results: &Results, directory: &Path) -> Drawn {
    fs::create_dir_all(directory)?;
    let lookup = |row: &Row| row.times.as_ref().ok().map(|times| times[0]);
    let path = directory.join("lookup.svg");
    lines(results, &path, "Blocklist-like IPv4 ranges, native, hot", "ns per independent lookup", lookup)?;
    let path = directory.join("bytes.svg");
    lines(results, &path, "Blocklist-like IPv4 ranges", "bytes per range in memory", |row| row.resident)?;
    match results.of("IPv4", Shape::Blocklist, "1M") {
        Some(measured) => hosts(measured, &directory.join("hosts.svg")),
        None => Ok(()),
    }
}

fn area<'a>(path: &'a Path) -> Result<Area<'a>, Box<dyn Error>> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    // So that the plot is readable on a dark page.
    area.fill(&WHITE)?;
    Ok(area)
}

/// Draws a line for each contender over the number of ranges. Both axes are logarithmic.
fn lines(results: &Results, path: &Path, caption: &str, unit: &str, value: impl Fn(&Row) -> Option<f64>) -> Drawn {
    let lists: Vec<&Measured> = SIZES.iter().filter_map(|size| results.of("IPv4", Shape::Blocklist, size)).collect();
    let Some(first) = lists.first() else { return Ok(()) };
    let names = first.rows.iter().filter(|row| row.host == Host::Native).map(|row| row.contender);
    let series: Vec<(&str, Vec<(f64, f64)>)> = names
        .map(|name| {
            let point = |list: &&Measured| Some((list.ranges as f64, value(list.row(name, Host::Native)?)?));
            (name, lists.iter().filter_map(point).collect())
        })
        .collect();
    let values = || series.iter().flat_map(|(_, points)| points.iter().map(|point| point.1));
    let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));

    let area = area(path)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 20))
        .margin(15)
        .margin_right(170)
        .x_label_area_size(45)
        .y_label_area_size(60)
        .build_cartesian_2d((8e2..1.3e7).log_scale(), (low / 1.3..high * 1.3).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(BLACK.mix(0.06))
        .x_desc("ranges")
        .y_desc(unit)
        .x_label_formatter(&|count| format!("{count:.0}"))
        .y_label_formatter(&|value| format!("{value}"))
        .draw()?;
    for (at, (name, points)) in series.into_iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let style = colour.stroke_width(if name == EDGEFOLD { 4 } else { 2 });
        // Each colour is used twice: first with circles, then with crosses.
        let (circle, cross) = if at < COLOURS.len() { (4, 0) } else { (0, 4) };
        let mark = move |x| (Circle::new((x, 0), circle, colour.filled()), Cross::new((x, 0), cross, style));
        let marks = points.iter().map(|&point| {
            let (circle, cross) = mark(0);
            EmptyElement::at(point) + circle + cross
        });
        chart.draw_series(marks)?;
        chart.draw_series(LineSeries::new(points, style))?;

        // The legend is drawn beside the chart, since the library's own would be cut off there.
        let y = 60 + 18 * i32::try_from(at)?;
        let (circle, cross) = mark(10);
        let line = PathElement::new([(0, 0), (20, 0)], style);
        area.draw(&(EmptyElement::at((745, y)) + line + circle + cross))?;
        area.draw(&Text::new(name.replace('`', ""), (772, y - 6), ("sans-serif", 12)))?;
    }
    area.present()?;
    Ok(())
}

/// Draws bars for edgefold and both searches of pairs in each host.
fn hosts(measured: &Measured, path: &Path) -> Drawn {
    const HOSTS: [Host; 3] = [Host::Native, Host::Wasmtime(Simd::With), Host::V8(Simd::With)];
    const CONTENDERS: [&str; 3] = [EDGEFOLD, PARTITION_POINT, BRANCHY];
    let area = area(path)?;
    let panels = area.titled(&format!("{}: ns per lookup", measured.name()), ("sans-serif", 20))?.split_evenly((2, 2));
    for (way, panel) in panels.iter().enumerate() {
        let times = HOSTS.iter().flat_map(|&host| CONTENDERS.map(|contender| measured.times(contender, host)));
        let high = times.flatten().map(|times| times[way]).fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(panel)
            .caption(WAYS[way], ("sans-serif", 15))
            .margin(8)
            .x_label_area_size(22)
            .y_label_area_size(45)
            .build_cartesian_2d(0.0..12.0, 0.0..high * 1.5)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .x_labels(13)
            .y_labels(6)
            .y_label_formatter(&|nanos| format!("{nanos:.0}"))
            .x_label_formatter(&|at: &f64| {
                let name = HOSTS.iter().zip([2.0, 6.0, 10.0]).find(|(_, middle)| (at - middle).abs() < 0.1);
                name.map_or(String::new(), |(host, _)| host.name().to_owned())
            })
            .draw()?;
        for (at, contender) in CONTENDERS.into_iter().enumerate() {
            let bars = HOSTS.iter().zip([0.5, 4.5, 8.5]).filter_map(|(&host, start)| {
                let left = start + at as f64;
                let nanos = measured.times(contender, host)?[way];
                Some(Rectangle::new([(left, 0.0), (left + 0.9, nanos)], COLOURS[at].filled()))
            });
            let drawn = chart.draw_series(bars)?.label(contender.replace('`', ""));
            drawn.legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], COLOURS[at].filled()));
        }
        if way == 0 {
            chart.configure_series_labels().position(SeriesLabelPosition::UpperRight).background_style(WHITE).draw()?;
        }
    }
    area.present()?;
    Ok(())
}
