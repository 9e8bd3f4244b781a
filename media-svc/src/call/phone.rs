//! The phone call behind a session, as its provider knows it: ended, transferred and dialled into by REST, in tasks of
//! their own and never from the audio path.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use carriers::{CarrierError, Carriers};
use media_core::conversation::EndReason;
use service_kit::tasks::TaskScope;

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
        }
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
        let moved = self.carriers.transfer(&self.provider, &self.call_id, to).await;
        // When the answer was lost it may have been done, and a call that was handed over must not be ended.
        if moved
            .as_ref()
            .is_err_and(|error| !matches!(error, CarrierError::TimedOut(_)))
        {
            self.transferred.store(false, Ordering::Release);
        }
        moved
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

    /// Tells the provider that our side has ended the call. Closing the stream is enough at some providers and leaves the
    /// caller waiting at others.
    pub fn hang_up_after(self: Arc<Self>, reason: &EndReason, session_id: Arc<str>, scope: &TaskScope) {
        let over_there = match reason {
            EndReason::CallerHungUp | EndReason::Transferred => true,
            EndReason::AgentHungUp
            | EndReason::Requested
            | EndReason::Drained
            | EndReason::TransportFailed(_)
            | EndReason::ProviderFailed(_)
            | EndReason::TimeLimit
            | EndReason::AnsweringMachine => self.transferred.load(Ordering::Acquire),
        };
        if over_there || !self.is_known() || !self.carriers.can_hang_up(&self.provider) {
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
