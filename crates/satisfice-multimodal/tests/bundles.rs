//! The examples' models answer as PyTorch and ONNX Runtime did when the examples were made.
#![allow(clippy::unwrap_used, reason = "tests")]

use safetensors::SafeTensors;
use satisfice_core::{Batching, Part, TensorData};
use satisfice_multimodal::{Dataset, ModelDir, MultimodalEngine, OpenOptions};
use std::{collections::BTreeMap, fs, path::Path};

/// Test samples that are compared.
const SAMPLES: usize = 4;
/// Largest difference of a logit: the same files in another runtime.
const TOLERANCE: f32 = 2e-3;
/// Logits of trained weights differ from those of the kept ones, which are in 8 bits; classes hardly do.
const OTHER_CLASSES_MAX: f64 = 0.1;

struct Bundle {
    engine: MultimodalEngine,
    test: Dataset,
    references: BTreeMap<String, Vec<f32>>,
    classes: usize,
}

impl Bundle {
    fn open(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../examples")
            .join(name);
        let model = ModelDir::open(&dir.join("models").join(name), None).unwrap();
        let options = OpenOptions {
            without_profile: true,
            ..OpenOptions::default()
        };
        Self {
            engine: MultimodalEngine::open(&model, &options).unwrap(),
            test: Dataset::open(&dir.join("test.safetensors"), model.config()).unwrap(),
            references: references(&dir.join("reference.safetensors")),
            classes: model.config().output.classes.len(),
        }
    }

    /// The logits of the first samples by a strategy.
    fn answer(&self, strategy: usize) -> Vec<f32> {
        let job = self.engine.prepare(self.test.request(0..SAMPLES)).unwrap();
        let part = Part {
            job: &job,
            inputs: 0..SAMPLES,
        };
        let mut outputs = self.engine.run(strategy, &[part]).unwrap().parts;
        let outputs = outputs.remove(0).unwrap();
        match outputs[0].tensor.data() {
            TensorData::Fp32(logits) => logits.clone(),
            other => panic!("{:?}", other.datatype()),
        }
    }

    fn compare(&self) {
        let (mut others, mut all) = (0, 0);
        for (position, strategy) in self.engine.strategies().iter().enumerate() {
            let name = &strategy.name;
            let found = self.answer(position);
            let kept = &self.references[&format!("onnxruntime.{name}")][..found.len()];
            // What 8-bit arithmetic rounds depends on the processor's instructions.
            if !name.contains('@') {
                let differences = found.iter().zip(kept).map(|(a, b)| (a - b).abs());
                let error = differences.fold(0.0, f32::max);
                assert!(error < TOLERANCE, "{name}: {error}");
            }
            let subset = name.split('@').next().unwrap();
            let trained = &self.references[&format!("pytorch.{subset}")];
            let classes = |logits: &[f32]| -> Vec<usize> {
                let largest =
                    |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
                logits
                    .chunks(self.classes)
                    .map(|row| largest(row).unwrap())
                    .collect()
            };
            let pairs = classes(&found);
            others += pairs
                .iter()
                .zip(classes(trained))
                .filter(|(a, b)| **a != *b)
                .count();
            all += SAMPLES;
        }
        assert!(
            f64::from(others as u32) <= OTHER_CLASSES_MAX * all as f64,
            "{others} of {all}"
        );
    }
}

fn references(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let values = |data: &[u8]| {
        let values = data
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        values.collect()
    };
    let tensors = tensors.tensors().into_iter();
    tensors
        .map(|(name, view)| (name, values(view.data())))
        .collect()
}

#[test]
fn emoji_answers_as_where_it_was_made() {
    let bundle = Bundle::open("emoji");
    assert_eq!(bundle.engine.strategies().len(), 7 + 4);
    bundle.compare();
}

#[test]
fn digits_answer_as_where_they_were_made() {
    let bundle = Bundle::open("digits");
    assert_eq!(bundle.engine.strategies().len(), 63);
    bundle.compare();
}
