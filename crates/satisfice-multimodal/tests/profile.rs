//! Profiles: what they measure, what they promise, and when they are refused.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use satisfice_core::{Batching, Engine, Measure, Part};
use satisfice_multimodal::{
    Dataset, ModelDir, MultimodalEngine, OpenOptions, Profile, ProfileOptions, SlowVariant,
    evaluate, profile,
};
use std::{collections::HashMap, fs, path::Path, slice};
use support::{Case, copy, edit, fixtures, floats, logits, open, parameter, with_plan};

fn data() -> std::path::PathBuf {
    fixtures().join("calibration.safetensors")
}

/// Profiles the model in `dir` with the file at `data`.
fn measure(dir: &Path, data: &Path) -> Profile {
    let model_dir = ModelDir::open(dir, None).unwrap();
    let data = Dataset::open(data, model_dir.config()).unwrap();
    let engine = MultimodalEngine::open(
        &model_dir,
        &OpenOptions {
            without_profile: true,
            ..OpenOptions::default()
        },
    );
    let options = ProfileOptions {
        quick: true,
        // Networks as small as these take as long in any precision.
        all_variants: true,
        progress: &|_, done, total| assert!(done < total),
    };
    let profile = profile(&model_dir, &mut engine.unwrap(), &data, &options).unwrap();
    profile.write(&model_dir).unwrap();
    profile
}

fn position(engine: &MultimodalEngine, plan: &str) -> usize {
    let mut strategies = engine.strategies().iter();
    strategies.position(|s| s.name == plan).unwrap()
}

/// The calibration file with some tensors left out.
fn without(dir: &Path, names: &[&str]) -> std::path::PathBuf {
    let bytes = fs::read(data()).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let kept = tensors.iter().filter(|(name, _)| !names.contains(name));
    let path = dir.join("data.safetensors");
    let bytes = safetensors::serialize(kept, metadata.metadata().clone()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn every_subset_and_some_cascades_are_measured() {
    for model in support::MODELS {
        let dir = copy(model);
        let made = measure(dir.path(), &data());
        let engine = open(dir.path()).unwrap();
        let names: Vec<&str> = engine
            .strategies()
            .iter()
            .map(|s| s.name.as_str())
            .collect();
        assert_eq!((made.inputs, made.groups), (240, 120));
        let cascades = made
            .strategies
            .iter()
            .filter(|s| s.cascade.is_some())
            .count();
        // A joint network takes as long for any subset: a cascade of it saves nothing.
        if model == "fused" {
            assert!(cascades > 0 && made.candidates > names.len(), "{names:?}");
        }
        assert_eq!(made.strategies.len(), names.len());
        for strategy in &made.strategies {
            let accuracy = strategy.accuracy.unwrap();
            assert!(
                accuracy.lower < accuracy.lower_alone && accuracy.lower_alone < accuracy.expected
            );
            assert!(names.contains(&strategy.name.as_str()));
        }
        let full = made
            .strategies
            .iter()
            .find(|s| s.name == "image+text+sensor")
            .unwrap();
        assert!((full.fidelity.lower - 1.0).abs() < 1e-12);
        // What the data were made for: words tell more than colours.
        let image = made.strategies.iter().find(|s| s.name == "image").unwrap();
        assert!(full.accuracy.unwrap().expected > image.accuracy.unwrap().expected + 0.1);
        let model_dir = ModelDir::open(dir.path(), None).unwrap();
        let read = Profile::read(&model_dir).unwrap().unwrap();
        assert_eq!(read.markdown(), made.markdown());
    }
}

#[test]
fn variants_that_save_nothing_are_not_offered() {
    let dir = copy("fused");
    let model_dir = ModelDir::open(dir.path(), None).unwrap();
    let names = || {
        let engine = open(dir.path()).unwrap();
        let names = engine.strategies().iter().map(|s| s.name.clone());
        names.collect::<Vec<_>>()
    };
    // Which of networks as small as these are slower is left to the machine.
    let calibration = Dataset::open(&data(), model_dir.config()).unwrap();
    let mut engine = MultimodalEngine::open(
        &model_dir,
        &OpenOptions {
            without_profile: true,
            ..OpenOptions::default()
        },
    )
    .unwrap();
    let options = ProfileOptions {
        quick: true,
        all_variants: false,
        progress: &|_, _, _| {},
    };
    let made = profile(&model_dir, &mut engine, &calibration, &options).unwrap();
    made.write(&model_dir).unwrap();
    let profiled: Vec<&str> = made.strategies.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names(), profiled);
    let table = made.markdown();
    for slow in &made.not_offered {
        assert!(slow.seconds > 0.9 * slow.base_seconds);
        assert!(table.contains(&format!("{} takes", slow.file)), "{table}");
    }

    let mut made = measure(dir.path(), &data());
    let is_base = |name: &str| !name.contains("@int8");
    made.strategies.retain(|s| is_base(&s.name));
    let slow = |file: &str| SlowVariant {
        file: file.to_owned(),
        seconds: 0.7,
        instead_of: file.replace(".int8", ""),
        base_seconds: 0.02,
    };
    let files = fs::read_dir(dir.path().join("1")).unwrap();
    let files = files.map(|e| e.unwrap().file_name().into_string().unwrap());
    made.not_offered = files
        .filter(|f| f.contains("int8"))
        .map(|f| slow(&f))
        .collect();
    assert!(!made.not_offered.is_empty());
    made.write(&model_dir).unwrap();
    assert!(!names().is_empty() && names().iter().all(|name| is_base(name)));
    let engine = open(dir.path()).unwrap();
    let request = with_plan(Case::open().request("image", 0..1), "image@int8");
    let refusal = engine.infer(&request).unwrap_err().to_string();
    assert!(refusal.contains("no plan `image@int8`"), "{refusal}");
}

#[test]
fn strategies_and_answers_carry_the_promises() {
    let dir = copy("fused");
    let made = measure(dir.path(), &data());
    let engine = open(dir.path()).unwrap();
    for strategy in engine.strategies() {
        let profiled = made
            .strategies
            .iter()
            .find(|s| s.name == strategy.name)
            .unwrap();
        let [accuracy, fidelity] = strategy.quality[..] else {
            panic!()
        };
        assert_eq!(
            (accuracy.measure, fidelity.measure),
            (Measure::Accuracy, Measure::Fidelity)
        );
        assert!((accuracy.lower - profiled.accuracy.unwrap().lower).abs() < 1e-12);
        let [(_, first), ..] = profiled.planned().collect::<Vec<_>>()[..] else {
            panic!()
        };
        assert!((strategy.seconds[0] - first).abs() < 1e-12);
        assert!(strategy.seconds.is_sorted() && strategy.seconds.len() == 16);
    }
    let best = made
        .strategies
        .iter()
        .map(|s| s.accuracy.unwrap().expected)
        .fold(0.0, f64::max);
    let answer = engine
        .infer(&Case::open().request("image+text+sensor", 0..2))
        .unwrap();
    let expected = &answer.parameters["expected_accuracy"];
    assert_eq!(*expected, satisfice_core::Parameter::Float(best));
    assert!(answer.parameters.contains_key("fidelity_lower_bound"));
}

#[test]
fn cascades_answer_again_where_the_first_is_not_sure() {
    let case = Case::open();
    for model in ["fused", "per_subset"] {
        let dir = copy(model);
        let made = measure(dir.path(), &data());
        let engine = open(dir.path()).unwrap();
        let mut again = 0;
        for strategy in &made.strategies {
            let Some(cascade) = &strategy.cascade else {
                continue;
            };
            let request = case.request("image+text+sensor", 0..7);
            let answer = |plan: &str| logits(&engine, &with_plan(request.clone(), plan));
            let (found, first, then) = (
                answer(&strategy.name),
                answer(&cascade.first),
                answer(&cascade.then),
            );
            let before = again;
            for row in 0..7 {
                let values = |of: &[f32]| of[row * 3..(row + 1) * 3].to_vec();
                let first = values(&first);
                let scaled = first.iter().map(|v| (v / cascade.temperature).exp());
                let sum: f32 = scaled.clone().sum();
                let confidence = scaled.fold(0.0, f32::max) / sum;
                let sure = confidence >= cascade.threshold;
                again += usize::from(!sure);
                let wanted = if sure { first } else { values(&then) };
                let difference = support::largest_difference(&values(&found), &wanted);
                assert!(difference < 1e-4, "{model} {}: {difference}", strategy.name);
            }
            let answer = engine.infer(&with_plan(request.clone(), &strategy.name));
            let answer = answer.unwrap();
            // Its time, once it is known how many were answered again.
            let seconds = |plan: &str| &engine.strategies()[position(&engine, plan)].seconds;
            let (first, then) = (seconds(&cascade.first), seconds(&cascade.then));
            let second = match again - before {
                0 => 0.0,
                rows if model == "fused" => (then[rows - 1] - first[rows - 1]).max(0.0),
                rows => then[rows - 1],
            };
            let job = engine.prepare(request).unwrap();
            let part = Part {
                job: &job,
                inputs: 0..7,
            };
            let run = |plan: &str| engine.run(position(&engine, plan), slice::from_ref(&part));
            let work = run(&strategy.name).unwrap().work_seconds.unwrap();
            assert!((work - first[6] - second).abs() < 1e-9, "{}", strategy.name);
            assert_eq!(run(&cascade.first).unwrap().work_seconds, None);
            let ran = parameter(&answer, "modalities");
            if model == "fused" {
                // The first subset ran for all, and its encoders not again.
                for modality in cascade.first.split('@').next().unwrap().split('+') {
                    assert!(
                        ran.contains(&format!("{modality}=7")),
                        "{}: {ran}",
                        strategy.name
                    );
                }
            }
        }
        // Whether cascades of networks as small as these save time is left to the machine, but where
        // embeddings are kept.
        assert!(again > 0 || model != "fused");
    }
}

#[test]
fn without_labels_agreement_is_measured() {
    let dir = copy("fused");
    let made = measure(dir.path(), &without(dir.path(), &["labels", "groups"]));
    assert_eq!(made.groups, 240);
    assert!(made.strategies.iter().all(|s| s.accuracy.is_none()));
    let engine = open(dir.path()).unwrap();
    assert!(
        engine
            .strategies()
            .iter()
            .all(|s| s.quality[0].measure == Measure::Fidelity)
    );
    let answer = engine.infer(&Case::open().request("image", 0..1)).unwrap();
    assert!(!answer.parameters.contains_key("expected_accuracy"));
    assert!(answer.parameters.contains_key("expected_fidelity"));
    assert!(made.markdown().contains("front of fidelity"));
}

#[test]
fn evaluation_repeats_what_was_profiled() {
    let dir = copy("fused");
    let made = measure(dir.path(), &data());
    let model_dir = ModelDir::open(dir.path(), None).unwrap();
    let engine = open(dir.path()).unwrap();
    let data = Dataset::open(&data(), model_dir.config()).unwrap();
    for evaluation in evaluate(&engine, &data, &|_, _, _| {}).unwrap() {
        let profiled = made
            .strategies
            .iter()
            .find(|s| s.name == evaluation.strategy)
            .unwrap();
        let difference = evaluation.accuracy.unwrap() - profiled.accuracy.unwrap().expected;
        // A cascade is judged with thresholds of other folds.
        let tolerance = if profiled.cascade.is_some() {
            0.05
        } else {
            1e-9
        };
        assert!(
            difference.abs() <= tolerance,
            "{}: {difference}",
            evaluation.strategy
        );
    }
}

#[test]
fn reports_name_every_strategy() {
    let dir = copy("fused");
    let made = measure(dir.path(), &data());
    let (table, picture) = (made.markdown(), made.plot());
    for strategy in &made.strategies {
        assert!(table.contains(&format!("| {}", strategy.name)));
        assert!(picture.contains(&format!(">{}<", strategy.name.replace('>', "&gt;"))));
    }
    assert!(table.contains(" * |") && !picture.contains("NaN") && !picture.contains("inf"));
}

#[test]
fn profiles_of_other_files_are_refused() {
    let dir = copy("fused");
    measure(dir.path(), &data());
    let path = dir.path().join("1/profile.json");
    let whole = fs::read_to_string(&path).unwrap();
    let refusal = || open(dir.path()).unwrap_err().to_string();
    let cases = [
        ("{", "{\"smell\": 1,", "unknown field"),
        ("\"format\": 1", "\"format\": 9", "format 9"),
        ("\"expected\": 0", "\"expected\": 7", "not between 0 and 1"),
        ("\"batch\": 1,", "\"batch\": 3,", "ascending batch sizes"),
        (
            "\"p50_seconds\": ",
            "\"p50_seconds\": -",
            "ascending batch sizes",
        ),
        ("\"first\": \"", "\"first\": \"x", "no strategy `x"),
    ];
    for (from, to, message) in cases {
        assert!(whole.contains(from), "{from}");
        fs::write(&path, whole.replacen(from, to, 1)).unwrap();
        let refusal = refusal();
        assert!(
            refusal.contains(message) && refusal.contains("satisfice profile"),
            "{refusal}"
        );
    }
    fs::write(&path, &whole).unwrap();
    open(dir.path()).unwrap();
    edit(dir.path(), "batch_max = 16", "batch_max = 8");
    assert!(refusal().contains("files have changed"));
}

#[test]
fn times_of_another_runtime_are_measured_anew() {
    let dir = copy("fused");
    let mut made = measure(dir.path(), &data());
    let slow = |profile: &mut Profile| {
        for latency in profile.strategies.iter_mut().flat_map(|s| &mut s.latency) {
            latency.planned_seconds = 1e6;
        }
    };
    slow(&mut made);
    made.runtime = "another".to_owned();
    made.write(&ModelDir::open(dir.path(), None).unwrap())
        .unwrap();
    let engine = open(dir.path()).unwrap();
    assert!(
        engine
            .strategies()
            .iter()
            .all(|s| s.seconds.iter().all(|&t| t > 0.0 && t < 1e5))
    );
    assert!(engine.strategies().iter().all(|s| s.quality.len() == 2));
}

#[test]
fn wrong_calibration_files_are_refused() {
    let dir = copy("fused");
    let config = ModelDir::open(dir.path(), None).unwrap().config().clone();
    let refusal = |path: &Path| Dataset::open(path, &config).unwrap_err().to_string();
    assert!(refusal(&dir.path().join("nothing")).contains("No such file"));
    assert!(refusal(&dir.path().join("model.toml")).contains("model.toml"));
    let sensor = without(dir.path(), &["sensor"]);
    assert!(refusal(&sensor).contains("no tensor `sensor`"));

    // Written anew, with one tensor replaced.
    let bytes = fs::read(data()).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let replaced = |name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]| {
        let mut all: HashMap<String, TensorView<'_>> = tensors.tensors().into_iter().collect();
        all.insert(
            name.to_owned(),
            TensorView::new(dtype, shape.to_vec(), bytes).unwrap(),
        );
        let path = dir.path().join("wrong.safetensors");
        let file = safetensors::serialize(all, metadata.metadata().clone()).unwrap();
        fs::write(&path, file).unwrap();
        refusal(&path)
    };
    let labels = vec![9_u8; 8 * 240];
    assert!(replaced("labels", Dtype::I64, &[240], &labels).contains("none of the 3 classes"));
    assert!(replaced("labels", Dtype::I64, &[3], &[0; 24]).contains("not I64 [240]"));
    assert!(replaced("sensor", Dtype::F32, &[240, 3], &[0; 2880]).contains("shape [240, 3]"));
    assert!(replaced("sensor", Dtype::F32, &[1, 4], &[0; 16]).contains("same number of inputs"));
    assert!(replaced("ids", Dtype::I32, &[240, 6], &[0; 5760]).contains("is I32"));
    let offsets: Vec<u8> = [0_i64, 5, 3].iter().flat_map(|o| o.to_le_bytes()).collect();
    let mut all: HashMap<String, TensorView<'_>> = tensors.tensors().into_iter().collect();
    all.insert(
        "picture_offsets".into(),
        TensorView::new(Dtype::I64, vec![3], &offsets).unwrap(),
    );
    all.insert(
        "picture_bytes".into(),
        TensorView::new(Dtype::U8, vec![5], &[0; 5]).unwrap(),
    );
    let path = dir.path().join("strings.safetensors");
    fs::write(
        &path,
        safetensors::serialize(all, metadata.metadata().clone()).unwrap(),
    )
    .unwrap();
    assert!(refusal(&path).contains("5 to 3 is no string"));
}

#[test]
fn pixels_stored_as_bytes_are_scaled() {
    let config = ModelDir::open(&fixtures().join("fused"), None)
        .unwrap()
        .config()
        .clone();
    let bytes = fs::read(data()).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let stored = tensors.tensor("image").unwrap().data()[192 * 5..192 * 6].to_vec();
    let request = Dataset::open(&data(), &config).unwrap().request(5..6);
    let values = floats(request.input("image").unwrap());
    assert!(
        values
            .iter()
            .zip(stored)
            .all(|(v, b)| (v - f32::from(b) / 255.0).abs() < 1e-6)
    );
}
