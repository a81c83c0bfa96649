//! Progress bars, only where a person looks.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use satisfice_store::Progress;
use std::sync::Mutex;

/// Bars on standard error; nothing where that is no terminal.
#[derive(Debug, Default)]
pub(crate) struct Bars(Mutex<Option<ProgressBar>>);

impl Bars {
    fn with(&self, f: impl FnOnce(&mut Option<ProgressBar>)) {
        if let Ok(mut bar) = self.0.lock() {
            f(&mut bar);
        }
    }
}

impl Progress for Bars {
    fn start(&self, task: &str, total: Option<u64>) {
        // indicatif hides a bar whose standard error is no terminal.
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = match total {
            Some(_) => "{msg:<28} [{bar:30}] {percent:>3}% {human_pos}/{human_len} {eta}",
            None => "{msg:<28} {spinner} {human_pos} {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(task.to_owned());
        self.with(|slot| *slot = Some(bar));
    }

    fn advance(&self, by: u64) {
        self.with(|slot| {
            if let Some(bar) = slot {
                bar.inc(by);
            }
        });
    }

    fn finish(&self) {
        self.with(|slot| {
            if let Some(bar) = slot.take() {
                bar.finish_and_clear();
            }
        });
    }
}

/// A bar on standard error for work whose steps are told as they come.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    bars: Bars,
    task: Mutex<String>,
}

impl Steps {
    /// `done` of `total` steps of `task` are done.
    pub(crate) fn at(&self, task: &str, done: usize, total: usize) {
        if let Ok(mut current) = self.task.lock() {
            if *current != task || done == 0 {
                self.bars.finish();
                self.bars.start(task, Some(total as u64));
                task.clone_into(&mut current);
            }
            self.bars.with(|slot| {
                if let Some(bar) = slot {
                    bar.set_position(done as u64);
                }
            });
        }
    }

    /// Clears the bar.
    pub(crate) fn finish(&self) {
        self.bars.finish();
    }
}
