//! Promises that are not true are found out.

use crate::fake::{Modal, Offering, ask, bare, number, of, serve, settings, text};
use satisfice_server::Service;
use std::{sync::Arc, time::Duration};

/// Requests within which a plan that is wrong on every second input, and promises to be right on 95 of
/// 100, is noticed: (ln 1e5 + 0.7) / (0.5 * 0.69 - 0.5 * 0.05) = 38 audits, with room for the order in
/// which wrong ones come.
const NOTICED_WITHIN: u64 = 80;

fn service(wrong: Option<(&'static str, u64)>) -> Arc<Service> {
    let mut engine = Offering::new(&[
        ("quick", 1e-3, 0.95),
        ("half", 2e-3, 0.97),
        ("exact", 4e-3, 0.999),
    ]);
    engine.wrong = wrong;
    let mut settings = settings(2);
    settings.admission.audit_share = 1.0;
    serve(settings, &[("m", Arc::new(engine))])
}

/// Asks, and waits until the answer was audited.
async fn asked(service: &Arc<Service>, i: u64) -> (String, f64) {
    let parameters = [("min_fidelity", 0.9.into()), ("number", (i as i64).into())];
    let answer = ask(service, "m", bare(&parameters)).await.unwrap();
    let audited = || {
        let audits = service.find("m", None).unwrap().audits();
        audits.iter().map(|audit| audit.inputs).sum::<u64>()
    };
    for _ in 0..2000 {
        if audited() > i {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (
        text(&answer, "plan"),
        number(&answer, "fidelity_lower_bound"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_profile_is_noticed_and_no_longer_relied_on() {
    let service = service(Some(("quick", 2)));
    let mut noticed = None;
    for i in 0..NOTICED_WITHIN {
        let (plan, lower) = asked(&service, i).await;
        assert!(lower >= 0.9);
        if plan != "quick" {
            assert_eq!(plan, "half");
            noticed = Some(i);
            break;
        }
    }
    assert!(noticed.is_some(), "not within {NOTICED_WITHIN} requests");
    let audits = service.find("m", None).unwrap().audits();
    let quick = audits.iter().find(|audit| audit.plan == "quick").unwrap();
    assert_eq!(quick.alarms, 1);
    assert!(
        quick.promised < 0.6 && (quick.observed - 0.5).abs() < 0.1,
        "{quick:?}"
    );
    // Who needs no more than what is true still gets the cheapest.
    let answer = ask(&service, "m", bare(&[("min_fidelity", 0.3.into())]))
        .await
        .unwrap();
    assert_eq!(text(&answer, "plan"), "quick");
    assert!(number(&answer, "fidelity_lower_bound") < 0.6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_true_profile_is_left_alone() {
    let service = service(None);
    for i in 0..2 * NOTICED_WITHIN {
        assert_eq!(asked(&service, i).await, ("quick".to_owned(), 0.95));
    }
    let audits = service.find("m", None).unwrap().audits();
    assert_eq!((audits[0].alarms, audits[0].observed), (0, 1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn strategies_are_audited_too() {
    // `y` is the input and the position of the strategy: for 0.5 the first is larger by `text` and the
    // second by `both`; accuracies of 0.8 and 0.9 promise that they agree on 0.7.
    let mut settings = settings(2);
    settings.admission.audit_share = 1.0;
    let service = serve(settings, &[("m", Arc::new(Modal::new(8)))]);
    let minimum = || [("min_accuracy", 0.8.into())];
    let x = [0.5_f32; 8];
    let mut noticed = false;
    for _ in 0..100 {
        let answer = ask(&service, "m", of(&x, &minimum())).await.unwrap();
        assert!(number(&answer, "accuracy_lower_bound") >= 0.8);
        noticed = text(&answer, "plan") == "both";
        if noticed {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(noticed);
    assert_eq!(service.find("m", None).unwrap().audits()[0].plan, "text");
}
