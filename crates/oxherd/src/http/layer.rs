//! A layer of `tower` that counts requests.
//!
//! A request is in flight from the call until the body of its answer has ended or is dropped. Must never hold a
//! request up, nor buffer a body.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::report::Reporter;
use crate::{InFlight, Load, Worker};

/// How often the figures are reported unless set otherwise.
const PERIOD: Duration = Duration::from_secs(5);

/// Counts requests, those in flight, errors (status 400 and above, or an error of the service) and latencies of
/// everything below it, and reports them to the primary.
///
/// Once the worker is told to leave, answers over HTTP/1 say `Connection: close`, so that clients which keep their
/// connections open come back over a new one, to another worker.
///
/// The primary of Oxherd reads the figures when it chooses a worker, without being told. For other eyes two
/// messages are sent every 5 s: `{type:"stats", stats:{connections, requests, inFlight, errors, latencyMs:{mean,
/// p50, p99}}}`, with latencies of that time (`null` without requests) and estimated within a factor of two; and
/// `{type:"metrics", data:{pid, requests, errors, memory, uptime}}`, in bytes and seconds. Without a primary it only
/// counts.
///
/// ```no_run
/// use std::time::Duration;
/// use oxherd::http::RequestLayer;
/// use tower_layer::Layer;
/// # #[derive(Clone)] struct Service;
/// # let service = Service;
/// let layer = RequestLayer::new().report_every(Duration::from_secs(10));
/// let counted = layer.layer(service); // or `router.layer(layer)`, or `ServiceBuilder::new().layer(layer)`
/// # drop(counted);
/// ```
#[derive(Clone, Debug)]
pub struct RequestLayer {
    counting: Arc<Counting>,
}

/// What all copies of the layer and its services share.
#[derive(Debug)]
struct Counting {
    load: Load,
    worker: Option<Worker>,
    reporter: Reporter,
}

impl RequestLayer {
    /// Counts for the [current worker](crate::worker()).
    pub fn new() -> Self {
        let worker = crate::worker();
        let load = Load::of_current();
        Self { counting: Arc::new(Counting { load, worker, reporter: Reporter::new(PERIOD) }) }
    }

    /// How often the figures are reported to the primary; every 5 s unless set. Zero for never.
    pub fn report_every(self, period: Duration) -> Self {
        let Counting { load, worker, .. } = &*self.counting;
        let (load, worker) = (load.clone(), worker.clone());
        Self { counting: Arc::new(Counting { load, worker, reporter: Reporter::new(period) }) }
    }

    /// The figures, to show them elsewhere too.
    pub fn load(&self) -> Load {
        self.counting.load.clone()
    }
}

impl Default for RequestLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for RequestLayer {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, counting: Arc::clone(&self.counting) }
    }
}

/// A service whose requests are counted; made by [`RequestLayer`].
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    counting: Arc<Counting>,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<CountedBody<R>>;
    type Error = S::Error;
    type Future = CountedFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if let Some(worker) = &self.counting.worker {
            self.counting.reporter.ensure(worker, &self.counting.load);
        }
        let may_close = request.version() <= Version::HTTP_11;
        let in_flight = Some(self.counting.load.begin());
        let counting = Arc::clone(&self.counting);
        CountedFuture { inner: self.inner.call(request), in_flight, counting, may_close }
    }
}

pin_project! {
    /// The answer to come of a [`Counted`] service.
    #[derive(Debug)]
    pub struct CountedFuture<F> {
        #[pin]
        inner: F,
        in_flight: Option<InFlight>,
        counting: Arc<Counting>,
        may_close: bool,
    }
}

impl<F, R, E> Future for CountedFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<CountedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(context));
        let mut in_flight = this.in_flight.take();
        let has_failed =
            answer.as_ref().map_or(true, |response| response.status() >= StatusCode::BAD_REQUEST);
        if let Some(request) = in_flight.as_mut().filter(|_| has_failed) {
            request.mark_failed();
        }
        let leaves = *this.may_close && this.counting.worker.as_ref().is_some_and(Worker::leaves);
        Poll::Ready(answer.map(|mut response| {
            if leaves && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response.map(|inner| CountedBody { inner, in_flight })
        }))
    }
}

pin_project! {
    /// The body of an answer, whose end ends the request.
    #[derive(Debug)]
    pub struct CountedBody<B> {
        #[pin]
        inner: B,
        in_flight: Option<InFlight>,
    }
}

impl<B: Body> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(context));
        match &frame {
            Some(Ok(_)) => {}
            Some(Err(_)) => {
                if let Some(request) = this.in_flight.take() {
                    request.fail();
                }
            }
            None => drop(this.in_flight.take()),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;
    use std::task::Waker;

    use super::*;

    /// One frame, then the end.
    struct Once(Option<&'static str>);

    impl Body for Once {
        type Data = std::io::Cursor<&'static str>;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
            Poll::Ready(self.0.take().map(|text| Ok(Frame::data(std::io::Cursor::new(text)))))
        }
    }

    #[derive(Clone)]
    struct Answers(Result<u16, ()>);

    impl Service<Request<()>> for Answers {
        type Response = Response<Once>;
        type Error = ();
        type Future = std::future::Ready<Result<Response<Once>, ()>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            std::future::ready(
                self.0.map(|status| Response::builder().status(status).body(Once(Some("x"))).unwrap()),
            )
        }
    }

    fn poll<F: Future>(future: F) -> F::Output {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("not ready"),
        }
    }

    #[test]
    fn a_request_lasts_until_its_body_has_ended() {
        let layer = RequestLayer::new();
        let load = layer.load();
        let mut service = layer.layer(Answers(Ok(200)));
        let future = service.call(Request::new(()));
        assert_eq!((load.figures().requests, load.figures().in_flight), (1, 1));
        let response = poll(future).unwrap();
        assert!(response.headers().get(CONNECTION).is_none());
        let mut body = pin!(response.into_body());
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(body.as_mut().poll_frame(&mut context), Poll::Ready(Some(Ok(_)))));
        assert_eq!(load.figures().in_flight, 1);
        assert!(matches!(body.as_mut().poll_frame(&mut context), Poll::Ready(None)));
        let figures = load.figures();
        assert_eq!((figures.in_flight, figures.errors), (0, 0));
        assert_eq!(figures.latency_histogram.iter().sum::<u64>(), 1);
    }

    #[test]
    fn errors_and_what_is_given_up_end_it_too() {
        let layer = RequestLayer::new();
        let load = layer.load();
        drop(poll(layer.layer(Answers(Ok(404))).call(Request::new(()))));
        assert_eq!((load.figures().errors, load.figures().in_flight), (1, 0));
        assert!(poll(layer.layer(Answers(Err(()))).call(Request::new(()))).is_err());
        assert_eq!((load.figures().errors, load.figures().in_flight), (2, 0));
        drop(layer.layer(Answers(Ok(200))).call(Request::new(())));
        assert_eq!((load.figures().errors, load.figures().in_flight, load.figures().requests), (2, 0, 3));
    }
}
