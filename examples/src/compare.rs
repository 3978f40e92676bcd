//! Measures a cluster from outside: how many light requests it answers, how long they take alone and while heavy
//! ones are calculated, and how much memory it has. It only asks; what it asks is the example's.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use oxherd::{Cluster, Event, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failure;

const CLIENTS: usize = 8;
const HEAVY_CLIENTS: usize = 2;
const WARM_UP: Duration = Duration::from_millis(300);
/// How long each measurement takes without `COMPARE_SECONDS`.
const SECONDS: f64 = 2.0;
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Between two requests of a client that asks at fixed times.
const PACE: Duration = Duration::from_millis(5);

/// When a client asks again.
#[derive(Clone, Copy, Debug)]
enum Pace {
    /// As soon as it has its answer.
    AtOnce,
    /// At fixed times, or late where the answer was.
    Every(Duration),
}

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Light requests a second, nothing else going on.
    pub per_second: f64,
    /// Half of them took at most this.
    pub p50: Duration,
    /// And 99 of 100 this.
    pub p99: Duration,
    /// The same two, while others ask for calculations. These clients ask at fixed times, and each answer's time counts
    /// from when its request was due: whoever waits behind a calculation would else ask less and hide it.
    pub p50_amid_heavy: Duration,
    /// As above.
    pub p99_amid_heavy: Duration,
    /// Calculations a second, meanwhile.
    pub heavy_per_second: f64,
    /// Memory of primary and workers in bytes: each shared page counts once (`Pss` of `/proc/PID/smaps_rollup`).
    pub memory: u64,
}

/// Prints the head of the table.
pub fn print_head() {
    println!(
        "{:<28} {:>10} {:>9} {:>9} {:>14} {:>14} {:>8} {:>9}",
        "", "requests/s", "p50", "p99", "p50 amid heavy", "p99 amid heavy", "heavy/s", "memory"
    );
}

/// Prints a row.
pub fn print(title: &str, measured: &Measured) {
    let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
    let Measured { per_second, p50, p99, p50_amid_heavy, p99_amid_heavy, heavy_per_second, memory } =
        *measured;
    println!(
        "{title:<28} {per_second:>10.0} {:>9} {:>9} {:>14} {:>14} {heavy_per_second:>8.0} {:>9}",
        ms(p50),
        ms(p99),
        ms(p50_amid_heavy),
        ms(p99_amid_heavy),
        format!("{:.1} MiB", memory as f64 / f64::from(1 << 20)),
    );
}

/// Waits until the cluster serves, measures it, and ends it.
///
/// # Errors
/// It does not come to serve, or a request fails.
pub fn measure(cluster: &Cluster) -> Result<Measured, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let measured = ask_all(cluster).await;
        // How it ended is of no matter here.
        let _code = cluster.shutdown().await;
        measured
    })
}

async fn ask_all(cluster: &Cluster) -> Result<Measured, Failure> {
    let (place, time) = (wait_serving(cluster).await?, time()?);
    ask(place, "/", CLIENTS, Pace::AtOnce, WARM_UP).await?;
    let light = ask(place, "/", CLIENTS, Pace::AtOnce, time).await?;
    let (amid, heavy) = tokio::try_join!(
        ask(place, "/", CLIENTS, Pace::Every(PACE), time),
        ask(place, "/heavy-task", HEAVY_CLIENTS, Pace::AtOnce, time)
    )?;
    Ok(Measured {
        per_second: light.len() as f64 / time.as_secs_f64(),
        p50: quantile(&light, 0.5),
        p99: quantile(&light, 0.99),
        p50_amid_heavy: quantile(&amid, 0.5),
        p99_amid_heavy: quantile(&amid, 0.99),
        heavy_per_second: heavy.len() as f64 / time.as_secs_f64(),
        memory: memory(cluster)?,
    })
}

fn time() -> Result<Duration, Failure> {
    let seconds = match std::env::var("COMPARE_SECONDS") {
        Ok(text) => text.parse().map_err(|_| format!("COMPARE_SECONDS={text} is no number of seconds"))?,
        Err(_) => SECONDS,
    };
    Ok(Duration::try_from_secs_f64(seconds)?)
}

/// Waits until every slot is filled by a worker that serves, and says where.
async fn wait_serving(cluster: &Cluster) -> Result<SocketAddr, Failure> {
    // Asked for first: what happens after the look is among them.
    let mut events = cluster.events();
    loop {
        let slots = cluster.status().await?.slots.slots;
        if slots.iter().all(|slot| slot.status == Status::Online) {
            let addresses =
                slots.iter().flat_map(|slot| &slot.instances).flat_map(|worker| &worker.addresses);
            let address = addresses.into_iter().next().ok_or("it serves nowhere")?;
            return Ok(address.parse()?);
        }
        match events.recv().await {
            Some(Event::GaveUp { why, .. }) => {
                return Err(format!("a worker could not be started: {why}").into());
            }
            Some(_) => {}
            None => return Err("it has ended".into()),
        }
    }
}

/// Asks by so many clients for so long, each on its own connection. Gives back the time of each answer, sorted.
async fn ask(
    place: SocketAddr,
    path: &str,
    clients: usize,
    pace: Pace,
    time: Duration,
) -> Result<Vec<Duration>, Failure> {
    let over: &'static AtomicBool = Box::leak(Box::default());
    let request: &'static str = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").leak();
    let tasks: Vec<_> = (0..clients).map(|_| tokio::spawn(ask_on(place, request, pace, over))).collect();
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    times.sort_unstable();
    Ok(times)
}

async fn ask_on(
    place: SocketAddr,
    request: &str,
    pace: Pace,
    over: &AtomicBool,
) -> Result<Vec<Duration>, Failure> {
    let mut stream = TcpStream::connect(place).await?;
    stream.set_nodelay(true)?;
    let mut times = Vec::new();
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let mut due = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let begun = match pace {
            Pace::AtOnce => Instant::now(),
            Pace::Every(pace) => {
                due += pace;
                tokio::time::sleep_until(due.into()).await;
                due
            }
        };
        stream.write_all(request.as_bytes()).await?;
        receive(&mut stream, &mut answer).await?;
        times.push(begun.elapsed());
    }
    Ok(times)
}

/// Reads one answer that has a `content-length`.
async fn receive(stream: &mut TcpStream, answer: &mut [u8]) -> Result<(), Failure> {
    let mut filled = 0;
    loop {
        let room = answer.get_mut(filled..).filter(|room| !room.is_empty()).ok_or("an answer is too long")?;
        match stream.read(room).await? {
            0 => return Err("the connection ended before the answer".into()),
            count => filled += count,
        }
        let text = String::from_utf8_lossy(answer.get(..filled).unwrap_or_default());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if !head.starts_with("HTTP/1.1 200") {
            return Err(format!("a wrong answer: {head}").into());
        }
        if body.len() >= length.ok_or("an answer without a length")? {
            return Ok(());
        }
    }
}

fn quantile(sorted: &[Duration], which: f64) -> Duration {
    let at = (sorted.len() as f64 * which) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn memory(cluster: &Cluster) -> Result<u64, Failure> {
    let workers = cluster.workers();
    let mut pids: Vec<u32> = workers.iter().filter_map(oxherd::WorkerHandle::pid).collect();
    pids.push(std::process::id());
    pids.sort_unstable();
    pids.dedup();
    let mut sum = 0;
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let pss = text
            .lines()
            .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        sum += pss.ok_or("no Pss")? * 1024;
    }
    Ok(sum)
}
