//! Partial softmaxes: `[largest logit, sum of exponentials, weighted sum]`, a head at a time.

/// Makes exponentials of `logits`, `[edges, heads]`, and counts them in a partial result, whose exponentials
/// so far are brought down to the new largest logits. Gives the weighted sums, to which the edges' values are
/// to be added. Source: Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018).
pub(super) fn raise<'a>(partial: &'a mut [f32], heads: usize, logits: &mut [f32]) -> &'a mut [f32] {
    let (tops, rest) = partial.split_at_mut(heads);
    let (totals, sums) = rest.split_at_mut(heads);
    let channels = sums.len() / heads;
    for head in 0..heads {
        let each = || (head..logits.len()).step_by(heads);
        let top = each().map(|i| logits[i]).fold(tops[head], f32::max);
        let kept = (tops[head] - top).exp();
        totals[head] *= kept;
        sums[head * channels..][..channels]
            .iter_mut()
            .for_each(|v| *v *= kept);
        tops[head] = top;
        for i in (head..logits.len()).step_by(heads) {
            logits[i] = (logits[i] - top).exp();
            totals[head] += logits[i];
        }
    }
    sums
}

/// The sums weighted by shares, `[heads, channels]`, from a partial result over all sources; `epsilon` is added
/// to the sum of exponentials.
pub(super) fn shares(partial: &[f32], (heads, epsilon): (usize, f32), out: &mut [f32]) {
    let (totals, sums) = partial[heads..].split_at(heads);
    let channels = sums.len() / heads;
    for ((out, sum), total) in out
        .chunks_exact_mut(channels)
        .zip(sums.chunks_exact(channels))
        .zip(totals)
    {
        // Nothing where there is no source: 0 / 0 is no answer.
        let scale = match *total > 0.0 {
            true => 1.0 / (total + epsilon),
            false => 0.0,
        };
        out.iter_mut().zip(sum).for_each(|(v, x)| *v = scale * x);
    }
}
