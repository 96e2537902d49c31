//! Responses that pursuits make from the records of others.
//!
//! Invariant: what does not fit a message is left out, with all that comes after it, and the
//! response is truncated.

use std::collections::HashSet;

use domain::base::header::Header;
use domain::base::message_builder::{
    AdditionalBuilder, AnswerBuilder, AuthorityBuilder, RecordSectionBuilder,
};
use domain::base::record::ComposeRecord;
use domain::base::{
    Message, MessageBuilder, ParsedRecord, Question, RecordSection, Rtype, StaticCompressor, ToName,
};
use domain::rdata::AllRecordData;
use wire::reply::MESSAGE_LEN_MAX;

type MessageBuffer = StaticCompressor<Vec<u8>>;

/// A response whose section `B` is being written.
pub(super) struct Joined<B> {
    section: B,
    is_truncated: bool,
}

impl Joined<AnswerBuilder<MessageBuffer>> {
    /// Begins with the answer section. `header`: sets the flags and the code. `None` if the
    /// question cannot be written.
    pub(super) fn begin(
        question: &Question<impl ToName>,
        header: impl FnOnce(&mut Header),
    ) -> Option<Self> {
        let mut builder = MessageBuilder::from_target(StaticCompressor::new(Vec::new())).ok()?;
        header(builder.header_mut());
        builder.set_push_limit(MESSAGE_LEN_MAX);
        let mut builder = builder.question();
        builder.push(question).ok()?;
        Some(Self { section: builder.answer(), is_truncated: false })
    }

    pub(super) fn authority(self) -> Joined<AuthorityBuilder<MessageBuffer>> {
        let Self { section, is_truncated } = self;
        Joined { section: section.authority(), is_truncated }
    }

    /// Ends with the other sections of a message, except its OPT. `has_authority`: the types of
    /// records that are taken from its authority section. `None` if a record cannot be read.
    pub(super) fn finish_with(
        self,
        message: &Message<&[u8]>,
        has_authority: impl Fn(Rtype) -> bool,
    ) -> Option<Box<[u8]>> {
        let mut authority = self.authority();
        authority.copy(message.authority().ok()?, has_authority)?;
        let mut additional = authority.additional();
        additional.copy(message.additional().ok()?, |rtype| rtype != Rtype::OPT)?;
        Some(additional.finish())
    }
}

impl Joined<AuthorityBuilder<MessageBuffer>> {
    pub(super) fn additional(self) -> Joined<AdditionalBuilder<MessageBuffer>> {
        let Self { section, is_truncated } = self;
        Joined { section: section.additional(), is_truncated }
    }
}

impl Joined<AdditionalBuilder<MessageBuffer>> {
    pub(super) fn finish(mut self) -> Box<[u8]> {
        if self.is_truncated {
            self.section.header_mut().set_tc(true);
        }
        self.section.finish().into_target().into()
    }
}

impl<B: RecordSectionBuilder<MessageBuffer>> Joined<B> {
    pub(super) fn push(&mut self, record: impl ComposeRecord) {
        if !self.is_truncated {
            self.is_truncated = self.section.push(record).is_err();
        }
    }

    /// Adds the records of answer sections, each once (RFC 2181, section 5): CNAMEs may lead back
    /// to where they come from. `None` if one cannot be read.
    pub(super) fn copy_answers(&mut self, messages: &[&Message<&[u8]>]) -> Option<()> {
        let mut known = HashSet::new();
        for message in messages {
            for record in message.answer().ok()? {
                let record: ParsedRecord<'_, &[u8]> = record.ok()?;
                let record = record.to_any_record::<AllRecordData<_, _>>().ok()?;
                let owner = record.owner().to_string().to_ascii_lowercase();
                if known.insert((owner, record.rtype(), record.data().to_string())) {
                    self.push(record);
                }
            }
        }
        Some(())
    }

    /// Adds the records of a section that are of the types that `has` says. `None` if one cannot be
    /// read.
    pub(super) fn copy<'m>(
        &mut self,
        section: RecordSection<'m, &'m [u8]>,
        has: impl Fn(Rtype) -> bool,
    ) -> Option<()> {
        for record in section {
            let record: ParsedRecord<'_, &[u8]> = record.ok()?;
            if has(record.rtype()) {
                self.push(record.to_any_record::<AllRecordData<_, _>>().ok()?);
            }
        }
        Some(())
    }
}
