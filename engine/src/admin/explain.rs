//! `/explain`: why an answer is what it is, for clients on this machine only.
//!
//! The control plane explains; here are who may ask, and how many. Invariant: a request from
//! another machine reaches nothing but its refusal.

use std::net::IpAddr;

use hyper::{Method, StatusCode};
use tokio::sync::{mpsc, oneshot};

use super::connection::EndpointData;
use super::endpoint::{Response, text};

pub(super) const PATH: &str = "/explain";

/// A request that the control plane answers.
#[derive(Debug)]
pub struct ExplainCall {
    /// Of the URL.
    pub query: String,
    /// The explanation, or what is wrong with the request.
    pub answer: oneshot::Sender<Result<String, String>>,
}

/// What becomes of a request.
pub(super) enum ExplainAnswer {
    Refused(Response),
    Accepted(oneshot::Receiver<Result<String, String>>),
}

/// Hands a request to the control plane.
pub(super) fn call(
    served: &EndpointData,
    peer: Option<IpAddr>,
    method: &Method,
    query: &str,
) -> ExplainAnswer {
    let refuse = |status, cause: &'static str| ExplainAnswer::Refused(text(status, cause));
    if !peer.is_some_and(|peer| peer.to_canonical().is_loopback()) {
        return refuse(StatusCode::FORBIDDEN, "/explain is for clients on this machine\n");
    }
    if *method != Method::GET {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "GET\n");
    }
    let (answer, answered) = oneshot::channel();
    let sent = served.explainer.get().map(|explainer: &mpsc::Sender<ExplainCall>| {
        explainer.try_send(ExplainCall { query: query.to_owned(), answer })
    });
    match sent {
        Some(Ok(())) => ExplainAnswer::Accepted(answered),
        Some(Err(_)) | None => refuse(StatusCode::SERVICE_UNAVAILABLE, "busy; try again\n"),
    }
}

impl ExplainAnswer {
    pub(super) async fn response(self) -> Response {
        match self {
            Self::Refused(response) => response,
            Self::Accepted(answered) => match answered.await {
                Ok(Ok(explanation)) => text(StatusCode::OK, explanation),
                Ok(Err(cause)) => text(StatusCode::BAD_REQUEST, cause + "\n"),
                Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"),
            },
        }
    }
}
