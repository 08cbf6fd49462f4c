//! Values of interleaved rounds, and what may be said of them.

/// Median and quartiles.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread {
    /// Lower quartile.
    pub low: f64,
    /// Median.
    pub median: f64,
    /// Upper quartile.
    pub high: f64,
}

impl Spread {
    /// Of any number of values; zero of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            let Some(last) = values.len().checked_sub(1) else { return 0.0 };
            let at = share * last as f64;
            let (below, above) = (values[at.floor() as usize], values[at.ceil() as usize]);
            below + (above - below) * at.fract()
        };
        Self { low: quantile(0.25), median: quantile(0.5), high: quantile(0.75) }
    }

    /// Of what `combine` makes of the two values of each round.
    pub fn of_pairs(ours: &[f64], base: &[f64], combine: impl Fn(f64, f64) -> f64) -> Self {
        Self::of(ours.iter().zip(base).map(|(&ours, &base)| combine(ours, base)))
    }

    /// `median (low to high)` with so many decimals.
    pub fn show(self, decimals: usize) -> String {
        let Self { low, median, high } = self;
        format!("{median:.decimals$} ({low:.decimals$} to {high:.decimals$})")
    }
}

/// Goals, met or missed.
#[derive(Debug, Default)]
pub struct Goals {
    missed: u32,
}

impl Goals {
    /// Prints one and remembers whether it was missed.
    pub fn judge(&mut self, met: bool, what: &str, measured: &str) {
        println!("{} {what}: {measured}", if met { "met   " } else { "MISSED" });
        self.missed += u32::from(!met);
    }

    /// How many were missed.
    pub fn missed(&self) -> u32 {
        self.missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_the_values() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0, 5.0]);
        assert_eq!((spread.low, spread.median, spread.high), (2.0, 3.0, 4.0));
        let spread = Spread::of([1.0, 2.0]);
        assert_eq!((spread.low, spread.median, spread.high), (1.25, 1.5, 1.75));
        assert_eq!(Spread::of([]).median, 0.0);
        assert_eq!(
            Spread::of_pairs(&[2.0, 9.0], &[1.0, 3.0], |a, b| a / b).show(1),
            "2.5 (2.2 to 2.8)"
        );
    }
}
