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
