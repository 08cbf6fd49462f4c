//! Where in PHP code a process grew: each sample is growth, and the line that ran as it happened.

use std::sync::Arc;

use crate::event::Spot;
use crate::event::look::Frame;

/// Most lines that are kept; when there are more, the least is forgotten into the rest.
const SPOTS: usize = 32;

/// Growth by line.
#[derive(Clone, Debug, Default)]
pub(in crate::model) struct Spots {
    spots: Vec<Spot>,
    total_bytes: u64,
}

impl Spots {
    /// It grew by `bytes` in this place; None = it is not known in which.
    pub fn add(&mut self, frame: Option<&Frame>, bytes: u64) {
        self.total_bytes = self.total_bytes.saturating_add(bytes);
        let Some(frame) = frame else { return };
        let function: Option<Arc<str>> = frame.name().map(Into::into);
        let known = self.spots.iter_mut().find(|spot| {
            spot.line == frame.line && spot.function == function && spot.file == frame.file
        });
        if let Some(spot) = known {
            spot.grown_bytes = spot.grown_bytes.saturating_add(bytes);
            spot.samples += 1;
            return;
        }
        let (file, line) = (frame.file.clone(), frame.line);
        let spot = Spot { function, file, line, grown_bytes: bytes, share: 0.0, samples: 1 };
        if self.spots.len() < SPOTS {
            self.spots.push(spot);
        } else if let Some(least) = self.spots.iter_mut().min_by_key(|spot| spot.grown_bytes)
            && least.grown_bytes < bytes
        {
            *least = spot;
        }
    }

    /// Samples that are kept.
    pub fn samples(&self) -> u64 {
        self.spots.iter().map(|spot| spot.samples).fold(0, u64::saturating_add)
    }

    /// Functions with their growth, largest first, each at the line where it grew most; `share` is
    /// of all growth.
    pub fn functions(&self) -> Vec<Spot> {
        let mut functions: Vec<(Spot, u64)> = Vec::new();
        let mut lines: Vec<&Spot> = self.spots.iter().collect();
        lines.sort_by_key(|spot| (std::cmp::Reverse(spot.grown_bytes), spot.line));
        for line in lines {
            let known = functions
                .iter_mut()
                .find(|(spot, _)| spot.function == line.function && spot.file == line.file);
            match known {
                Some((spot, grown)) => {
                    *grown = grown.saturating_add(line.grown_bytes);
                    spot.samples += line.samples;
                }
                None => functions.push((line.clone(), line.grown_bytes)),
            }
        }
        functions.sort_by_key(|(_, grown)| std::cmp::Reverse(*grown));
        let total = self.total_bytes.max(1) as f64;
        functions
            .into_iter()
            .map(|(spot, grown_bytes)| Spot {
                grown_bytes,
                share: grown_bytes as f64 / total,
                ..spot
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, line: u32) -> Frame {
        Frame {
            class: None,
            function: Some(function.into()),
            file: Some("/srv/a.php".into()),
            line: Some(line),
        }
    }

    #[test]
    fn growth_is_summed_by_function_and_told_at_its_worst_line() {
        let mut spots = Spots::default();
        spots.add(Some(&frame("load", 7)), 60);
        spots.add(Some(&frame("load", 9)), 22);
        spots.add(Some(&frame("other", 3)), 10);
        spots.add(None, 8);
        let functions = spots.functions();
        assert_eq!(functions.len(), 2);
        let load = &functions[0];
        assert_eq!((load.function.as_deref(), load.line), (Some("load"), Some(7)));
        assert_eq!((load.grown_bytes, load.samples, load.share), (82, 2, 0.82));
        assert_eq!(functions[1].share, 0.1);
    }

    #[test]
    fn the_list_is_bounded_and_the_large_stay() {
        let mut spots = Spots::default();
        for at in 0..1000_u32 {
            spots.add(Some(&frame(&format!("f{at}"), at)), u64::from(at % 100));
        }
        spots.add(Some(&frame("big", 1)), 1 << 30);
        let functions = spots.functions();
        assert_eq!(functions.len(), SPOTS);
        assert_eq!(functions[0].function.as_deref(), Some("big"));
        assert!(functions[0].share > 0.99);
    }
}
