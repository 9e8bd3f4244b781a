//! The phone call behind a session, as its provider knows it: ended, transferred and dialled into by REST, in tasks of
//! their own and never from the audio path.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use carriers::{CarrierError, Carriers, Origin};
use media_core::conversation::EndReason;
use service_kit::tasks::TaskScope;
use tokio::time::Instant;

use super::away::WayBack;

/// Beyond the time it rings: until it rings, until the provider has noticed that nobody answers, and has told us.
const RING_MARGIN: Duration = Duration::from_secs(20);
/// For how much longer the stream may come back when the conversation has given the caller up.
const STREAM_MARGIN: Duration = Duration::from_secs(5);
/// How long a provider takes at most to open the stream again when it has been answered that it should.
const RETURN_WITHIN: Duration = Duration::from_secs(10);

/// One phone call at its provider.
#[derive(Debug)]
pub struct PhoneLine {
    carriers: Carriers,
    provider: String,
    call_id: String,
    /// Where the agent may transfer to.
    transfer_to: Vec<String>,
    /// Somebody else has the caller now: the call must not be ended.
    transferred: AtomicBool,
    /// Whether that is so is not known.
    in_doubt: AtomicBool,
    /// Our side has left the call.
    left: AtomicBool,
    /// The provider has been told that the call is over, or is being told.
    ended: AtomicBool,
    way_back: Option<WayBack>,
    /// The stream was closed without its provider's word for the end of a call.
    may_live_on: Arc<AtomicBool>,
}

/// How digits reach the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigitsBy {
    /// The provider has sent them.
    Provider,
    /// They have to be played as tones.
    Tones,
}

impl PhoneLine {
    /// For a call that its provider calls `call_id`; empty when it never said so, and then nothing can be asked for.
    pub fn new(carriers: Carriers, provider: String, call_id: String, transfer_to: Vec<String>) -> Self {
        Self {
            carriers,
            provider,
            call_id,
            transfer_to,
            transferred: AtomicBool::new(false),
            in_doubt: AtomicBool::new(false),
            left: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            way_back: None,
            may_live_on: Arc::default(),
        }
    }

    /// With what tells whether the call may live on when its stream has been closed.
    #[must_use]
    pub fn that_may_live_on(mut self, may_live_on: Arc<AtomicBool>) -> Self {
        self.may_live_on = may_live_on;
        self
    }

    /// With the way on which a caller comes back whom nobody takes, where the provider and the configuration have one.
    #[must_use]
    pub fn with_way_back(mut self, way_back: Option<WayBack>) -> Self {
        self.way_back = way_back.filter(|_| self.is_known() && self.carriers.brings_back(&self.provider));
        self
    }

    /// How long it takes at most to hear that nobody takes a caller; `None` when a caller who is put through is gone.
    pub fn waits_for_return(&self) -> Option<Duration> {
        self.way_back.as_ref().map(|_| self.carriers.ring() + RING_MARGIN)
    }

    /// Where the agent may transfer to; empty when the provider cannot.
    pub fn destinations(&self) -> &[String] {
        if self.is_known() && self.carriers.can_transfer(&self.provider) {
            &self.transfer_to
        } else {
            &[]
        }
    }

    /// Connects the caller with somebody else.
    ///
    /// # Errors
    /// As [`Carriers::transfer`].
    pub async fn transfer(&self, to: &str) -> Result<(), CarrierError> {
        // Set first: the provider may close our stream before it answers.
        self.transferred.store(true, Ordering::Release);
        self.in_doubt.store(false, Ordering::Release);
        let origin = self.way_back.as_ref().map(|way_back| {
            let until = self.carriers.ring() + RING_MARGIN + STREAM_MARGIN;
            way_back.away.begin(Instant::now() + until);
            Origin {
                session_id: way_back.session_id.to_string(),
                call_id: self.call_id.clone(),
                token: way_back.token.clone(),
            }
        });
        let asked = self
            .carriers
            .transfer(&self.provider, &self.call_id, to, origin.as_ref());
        let moved = asked.await;
        if let Err(error) = &moved {
            // A call that was handed over must not be ended, and without a clear answer it may have been. Where the stream
            // would have ended by that, it tells. Where it goes on, the agent may be all that the caller has.
            let in_doubt = error.may_have_been_done();
            // The provider may have said meanwhile that nobody takes the caller.
            let is_open = self.transferred.load(Ordering::Acquire);
            if !in_doubt || self.carriers.keeps_stream(&self.provider) {
                self.is_ours_again();
            }
            self.in_doubt.store(in_doubt && is_open, Ordering::Release);
        }
        moved
    }

    /// Somebody has taken the caller, by the provider's word. False when the caller was not being put through.
    pub fn is_taken(&self) -> bool {
        if self.in_doubt.swap(false, Ordering::AcqRel) {
            self.transferred.store(true, Ordering::Release);
            return true;
        }
        self.is_over_there()
    }

    /// Whether nobody waits for the stream any more: our side has left, or the caller is being put through. While that is in
    /// doubt the agent goes on, and so may the stream.
    pub fn is_done_with_stream(&self) -> bool {
        let in_doubt = self.in_doubt.load(Ordering::Acquire);
        self.left.load(Ordering::Acquire) || (self.is_over_there() && !in_doubt)
    }

    /// Nobody takes the caller: our stream goes on, or is about to be opened again.
    pub fn expect_back(&self) {
        self.transferred.store(false, Ordering::Release);
        self.in_doubt.store(false, Ordering::Release);
        match &self.way_back {
            Some(way_back) if !self.carriers.keeps_stream(&self.provider) => {
                way_back.away.shorten(Instant::now() + RETURN_WITHIN);
            }
            Some(_) | None => self.is_ours_again(),
        }
    }

    fn is_ours_again(&self) {
        self.transferred.store(false, Ordering::Release);
        if let Some(way_back) = &self.way_back {
            way_back.away.end();
        }
    }

    /// Whether somebody else has the caller, or may have.
    pub fn is_over_there(&self) -> bool {
        let is_away = self.way_back.as_ref().is_none_or(|way_back| way_back.away.is_on());
        is_away && self.transferred.load(Ordering::Acquire)
    }

    /// Sends digits by the provider, or says that they have to be played.
    ///
    /// # Errors
    /// As [`Carriers::send_dtmf`].
    pub async fn send_dtmf(&self, digits: &str) -> Result<DigitsBy, CarrierError> {
        if !self.is_known() || !self.carriers.can_send_dtmf(&self.provider) {
            return Ok(DigitsBy::Tones);
        }
        let sent = self.carriers.send_dtmf(&self.provider, &self.call_id, digits).await;
        sent.map(|()| DigitsBy::Provider)
    }

    /// Tells the provider, once, that our side has ended the call, or that nobody is left on it here. Closing the stream is
    /// enough at some providers and leaves the caller waiting at others. Nobody waits for it: a provider that does not
    /// answer holds a task of the node for three attempts of `telephony.request_timeout_secs` and the pauses between them,
    /// and no session.
    pub fn hang_up_after(self: Arc<Self>, reason: &EndReason, session_id: Arc<str>, scope: &TaskScope) {
        self.left.store(true, Ordering::Release);
        let over_there = match reason {
            EndReason::Transferred => true,
            EndReason::CallerHungUp => !self.may_live_on.load(Ordering::Acquire) || self.is_over_there(),
            EndReason::AgentHungUp
            | EndReason::Requested
            | EndReason::Drained
            | EndReason::TransportFailed(_)
            | EndReason::ProviderFailed(_)
            | EndReason::TimeLimit
            | EndReason::AnsweringMachine => self.is_over_there(),
        };
        if over_there || !self.is_known() || !self.carriers.can_hang_up(&self.provider) {
            return;
        }
        if self.ended.swap(true, Ordering::AcqRel) {
            return;
        }
        scope.spawn("provider hang-up", async move {
            if let Err(error) = self.carriers.hang_up(&self.provider, &self.call_id).await {
                let provider = &self.provider;
                tracing::warn!(%session_id, provider, %error, "the phone provider could not be told that a call is over");
            }
        });
    }

    fn is_known(&self) -> bool {
        !self.call_id.is_empty()
    }
}
