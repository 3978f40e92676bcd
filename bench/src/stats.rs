//! Medians and ranges of a few figures.

/// The middle of some rounds and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Summary {
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().filter(|figure| figure.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = sorted[sorted.len() / 2];
        let lower = sorted[(sorted.len() - 1) / 2];
        Some(Self { median: f64::midpoint(lower, upper), min, max })
    }
}

/// The median and the range as text.
pub(crate) fn spread(summary: Option<Summary>, digits: usize) -> String {
    summary.map_or_else(
        || "-".to_owned(),
        |Summary { median, min, max }| format!("{median:.digits$} [{min:.digits$}-{max:.digits$}]"),
    )
}

/// The figure below which `share` of the sorted ones lie.
pub(crate) fn quantile(sorted: &[u32], share: f64) -> u32 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let summary = Summary::of([4.0, 1.0, 2.0, 3.0]);
        assert_eq!(summary, Some(Summary { median: 2.5, min: 1.0, max: 4.0 }));
    }

    #[test]
    fn nothing_has_no_median_and_what_is_not_a_number_is_left_out() {
        assert_eq!(Summary::of([]), None);
        assert_eq!(Summary::of([f64::NAN, 7.0]), Some(Summary { median: 7.0, min: 7.0, max: 7.0 }));
    }

    #[test]
    fn quantiles_are_figures_that_occurred() {
        let sorted: Vec<u32> = (1..=100).collect();
        assert_eq!(quantile(&sorted, 0.5), 50);
        assert_eq!(quantile(&sorted, 0.99), 99);
        assert_eq!(quantile(&sorted, 1.0), 100);
        assert_eq!(quantile(&[], 0.5), 0);
    }
}
