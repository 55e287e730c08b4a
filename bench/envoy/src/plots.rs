//! The plots, as SVG.

use std::error::Error;
use std::fs;
use std::path::Path;

use plotters::prelude::*;

const BAR: RGBColor = RGBColor(0, 114, 178);

/// A bar, with the spread of its value.
pub(crate) struct Bar<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: f64,
    pub(crate) spread: [f64; 2],
}

/// Draws the bars from top to bottom.
pub(crate) fn bars(directory: &Path, file: &str, caption: &str, bars: &[Bar<'_>]) -> Result<(), Box<dyn Error>> {
    let Some(last) = bars.len().checked_sub(1) else { return Ok(()) };
    fs::create_dir_all(directory)?;
    let path = directory.join(file);
    let height = 110 + 32 * u32::try_from(bars.len())?;
    let area = SVGBackend::new(&path, (900, height)).into_drawing_area();
    // So that the plot is readable on a dark page.
    area.fill(&WHITE)?;
    let high = bars.iter().map(|bar| bar.spread[1]).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 20))
        .margin(15)
        .x_label_area_size(35)
        .y_label_area_size(190)
        .build_cartesian_2d(0.0..high * 1.12, (0..last).into_segmented())?;
    // The axis starts at the bottom.
    let place = |at: usize| last - at;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(WHITE)
        .x_label_formatter(&|value| format!("{value}"))
        .y_labels(bars.len())
        .y_label_formatter(&|at| match at {
            SegmentValue::CenterOf(at) if *at <= last => bars[place(*at)].name.to_owned(),
            _ => String::new(),
        })
        .draw()?;
    chart.draw_series(bars.iter().enumerate().map(|(at, bar)| {
        let [low, high] = [place(at), place(at) + 1].map(SegmentValue::Exact);
        let mut rectangle = Rectangle::new([(0.0, low), (bar.value, high)], BAR.filled());
        rectangle.set_margin(6, 6, 0, 0);
        rectangle
    }))?;
    chart.draw_series(bars.iter().enumerate().map(|(at, bar)| {
        let middle = SegmentValue::CenterOf(place(at));
        PathElement::new(bar.spread.map(|value| (value, middle.clone())), BLACK.stroke_width(2))
    }))?;
    chart.draw_series(bars.iter().enumerate().map(|(at, bar)| {
        let beside = (bar.spread[1].max(bar.value), SegmentValue::CenterOf(place(at)));
        EmptyElement::at(beside) + Text::new(format!("{:.2}", bar.value), (6, -6), ("sans-serif", 13))
    }))?;
    area.present()?;
    Ok(())
}
