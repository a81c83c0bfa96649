//! Requests and answers on their way through a connection, which is told how far they are.

use super::{Protocol, activity::Activity};
use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::Version,
    response::Response,
};
use hyper::body::{Frame, Incoming, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// One request, until its answer is complete.
pub(super) struct Turn {
    activity: Arc<Activity>,
    protocol: Protocol,
}

/// Notes that a request has come.
pub(super) fn begin(
    request: Request<Incoming>,
    activity: &Arc<Activity>,
    protocol: Protocol,
) -> (Request, Turn) {
    let whole = request.body().is_end_stream();
    let speaks_1_1 = request.version() == Version::HTTP_11;
    activity.begun(whole, speaks_1_1);
    let turn = Turn {
        activity: Arc::clone(activity),
        protocol,
    };
    let activity = (!whole).then(|| Arc::clone(activity));
    let request = request.map(|body| match activity {
        None => Body::empty(),
        activity => Body::new(Arriving { body, activity }),
    });
    (request, turn)
}

impl Turn {
    /// Notes that the answer begins, and later its end.
    pub(super) fn answer(self, response: Response) -> Response<Said> {
        self.activity.answered();
        response.map(|body| Said { body, _turn: self })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.activity.said(self.protocol);
    }
}

/// The body of a request.
struct Arriving {
    body: Incoming,
    /// None when it has arrived.
    activity: Option<Arc<Activity>>,
}

impl Arriving {
    fn end(&mut self) {
        if let Some(activity) = self.activity.take() {
            activity.arrived();
        }
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.end();
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.end();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer.
pub(super) struct Said {
    body: Body,
    _turn: Turn,
}

impl HttpBody for Said {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
