//! A body that is read from a file piece by piece, as fast as the client takes it.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::task::JoinHandle;

/// The largest piece.
const PIECE_BYTES: u64 = 64 << 10;

/// The file, and what was read of it.
type Piece = (File, Vec<u8>);

/// Text, or a part of a file.
#[derive(Debug)]
pub(super) enum Content {
    Text(Option<Bytes>),
    File(Part),
}

/// So many bytes of a file, read elsewhere: a disk may hang.
#[derive(Debug)]
pub(super) struct Part {
    left: u64,
    reading: Option<JoinHandle<io::Result<Piece>>>,
    file: Option<File>,
}

impl Content {
    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        Self::Text(Some(text.into()))
    }

    pub(super) fn nothing() -> Self {
        Self::Text(None)
    }

    /// So many bytes from there on.
    pub(super) fn file(mut file: File, first: u64, length: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(first))?;
        Ok(Self::File(Part { left: length, reading: None, file: Some(file) }))
    }
}

impl Part {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if let Some(file) = self.file.take() {
            let wanted = self.left.min(PIECE_BYTES);
            self.reading = Some(tokio::task::spawn_blocking(move || piece(file, wanted)));
        }
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let result = std::task::ready!(Pin::new(reading).poll(context));
        self.reading = None;
        Poll::Ready(match result.map_err(io::Error::other).and_then(|read| read) {
            // It has become shorter: a client that was told more must see that it is cut.
            Ok((_, piece)) if piece.is_empty() => {
                self.left = 0;
                Some(Err(io::ErrorKind::UnexpectedEof.into()))
            }
            Ok((file, piece)) => {
                self.left -= piece.len() as u64;
                self.file = Some(file);
                Some(Ok(piece.into()))
            }
            Err(error) => {
                self.left = 0;
                Some(Err(error))
            }
        })
    }
}

fn piece(file: File, wanted: u64) -> io::Result<Piece> {
    let mut piece = Vec::with_capacity(wanted as usize);
    (&file).take(wanted).read_to_end(&mut piece)?;
    Ok((file, piece))
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::File(part) => {
                part.poll_piece(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::File(part) => part.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Text(text) => text.as_ref().map_or(0, |text| text.len() as u64),
            Self::File(part) => part.left,
        })
    }
}
