//! The terminal: raw mode and the alternate screen, left again whatever happens, and a thread that
//! writes, so that a terminal that stands still (a stalled ssh, Ctrl-S) holds up no tracing.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread;
use std::time::Duration;

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::queue;
use ratatui::crossterm::style::ResetColor;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{Frame, Terminal};

/// Stack of the writing thread; its frames are shallow.
const STACK_BYTES: usize = 64 << 10;
/// How long leaving waits for a terminal that stands still.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether the terminal is ours now; whoever takes it down first gives it back.
static ENTERED: AtomicBool = AtomicBool::new(false);

/// The terminal while it is ours.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Frames>>,
    frames: Frames,
    writer: Writer,
}

impl Screen {
    /// Takes the terminal at standard output.
    pub(super) fn enter() -> io::Result<Self> {
        restore_on_panic();
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let frames = Frames::default();
        let terminal = Terminal::new(CrosstermBackend::new(frames.clone()))?;
        let mut writer = Writer::spawn(out)?;
        ENTERED.store(true, Ordering::SeqCst);
        enable_raw_mode().inspect_err(|_| ENTERED.store(false, Ordering::SeqCst))?;
        let mut enter = Vec::new();
        queue!(enter, EnterAlternateScreen, Hide)?;
        writer.send(enter)?;
        Ok(Self { terminal, frames, writer })
    }

    /// Whether the last frame is written; until then another one is not to be drawn.
    pub(super) fn is_ready(&self) -> io::Result<bool> {
        self.writer.is_idle()
    }

    pub(super) fn size(&self) -> io::Result<ratatui::layout::Rect> {
        self.terminal.size().map(|size| ratatui::layout::Rect::new(0, 0, size.width, size.height))
    }

    /// Draws what changed.
    pub(super) fn draw(&mut self, render: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(render)?;
        self.writer.send(self.frames.take())
    }

    /// Gives the terminal back. Later calls do nothing.
    pub(super) fn leave(&mut self) {
        if ENTERED.swap(false, Ordering::SeqCst) {
            self.writer.end(farewell());
            // Nothing is left to try when the terminal is gone.
            let _ = disable_raw_mode();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

fn farewell() -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail.
    let _ = queue!(bytes, ResetColor, Show, LeaveAlternateScreen);
    bytes
}

/// The message of a panic must be readable, on the normal screen.
fn restore_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if ENTERED.swap(false, Ordering::SeqCst) {
                // Not through `Stdout`, whose lock may be held.
                if let Ok(out) = io::stdout().as_fd().try_clone_to_owned() {
                    let _ = File::from(out).write_all(&farewell());
                }
                let _ = disable_raw_mode();
            }
            before(panic);
        }));
    });
}

/// Where the backend writes: memory, until the frame is complete.
#[derive(Clone, Debug, Default)]
struct Frames(Arc<Mutex<Vec<u8>>>);

impl Frames {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread that writes frames, one at a time.
struct Writer {
    frames: Option<SyncSender<Vec<u8>>>,
    state: Arc<State>,
    ended: Receiver<()>,
}

#[derive(Debug, Default)]
struct State {
    busy: AtomicBool,
    failure: Mutex<Option<io::Error>>,
}

impl Writer {
    fn spawn(mut out: File) -> io::Result<Self> {
        // A frame under way, the next one, and the farewell.
        let (frames, queue) = mpsc::sync_channel::<Vec<u8>>(2);
        let (end, ended) = mpsc::sync_channel(1);
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::Builder::new().name("screen".to_owned()).stack_size(STACK_BYTES).spawn(
            move || {
                for frame in queue {
                    if let Err(error) = out.write_all(&frame) {
                        *shared.failure.lock().unwrap_or_else(PoisonError::into_inner) =
                            Some(error);
                    }
                    shared.busy.store(false, Ordering::Release);
                }
                // Nobody may be waiting any more.
                let _ = end.try_send(());
            },
        )?;
        Ok(Self { frames: Some(frames), state, ended })
    }

    fn is_idle(&self) -> io::Result<bool> {
        match self.state.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(!self.state.busy.load(Ordering::Acquire)),
        }
    }

    fn send(&mut self, frame: Vec<u8>) -> io::Result<()> {
        let Some(frames) = &self.frames else { return Ok(()) };
        self.state.busy.store(true, Ordering::Release);
        match frames.try_send(frame) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TrySendError::Disconnected(_)) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Sends the last bytes and waits for them, but not for ever.
    fn end(&mut self, last: Vec<u8>) {
        if let Some(frames) = self.frames.take() {
            // Full: the terminal stands still, and what it shows cannot be helped.
            let _ = frames.try_send(last);
        }
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_reader_that_stands_still_is_not_waited_for() {
        let (mut reader, pipe) = io::pipe().unwrap();
        let mut writer = Writer::spawn(File::from(std::os::fd::OwnedFd::from(pipe))).unwrap();
        assert!(writer.is_idle().unwrap());
        let more_than_a_pipe_holds = vec![b'x'; 1 << 20];
        writer.send(more_than_a_pipe_holds.clone()).unwrap();
        thread::sleep(Duration::from_millis(50));
        assert!(!writer.is_idle().unwrap());
        let reading = thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        let waiting = std::time::Instant::now();
        while !writer.is_idle().unwrap() {
            assert!(waiting.elapsed() < Duration::from_secs(5));
            thread::sleep(Duration::from_millis(1));
        }
        writer.end(b"end".to_vec());
        drop(writer);
        let all = reading.join().unwrap().unwrap();
        assert_eq!(all.len(), more_than_a_pipe_holds.len() + 3);
        assert!(all.ends_with(b"xend"));
    }

    #[test]
    fn a_terminal_that_is_gone_is_an_error() {
        let (reader, pipe) = io::pipe().unwrap();
        drop(reader);
        let mut writer = Writer::spawn(File::from(std::os::fd::OwnedFd::from(pipe))).unwrap();
        writer.send(b"x".to_vec()).unwrap();
        let waiting = std::time::Instant::now();
        let error = loop {
            assert!(waiting.elapsed() < Duration::from_secs(5));
            if let Err(error) = writer.is_idle() {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
