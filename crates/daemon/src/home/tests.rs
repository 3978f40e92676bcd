//! Homes that are fit, and every kind that is not.

use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use super::scratch::{Scratch, skips_as_root};
use super::*;

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn home_in(scratch: &Scratch) -> Home {
    Home::at(&scratch.join("home")).unwrap()
}

fn prepared(scratch: &Scratch) -> (Home, OwnedFd) {
    let home = home_in(scratch);
    home.prepare().unwrap();
    let lock = home.lock().unwrap().unwrap();
    (home, lock)
}

/// The text of an error, with the changing part of its paths taken out.
fn told<T>(scratch: &Scratch, result: Result<T, HomeError>) -> String {
    let Err(error) = result else { panic!("no error") };
    let text = error.to_string();
    assert!(!text.contains('\n') && !text.contains("os error"), "{text}");
    text.replace(scratch.path().to_str().unwrap(), "/x")
}

#[test]
fn a_home_is_made_closed_and_may_be_prepared_again() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    home.prepare().unwrap();
    assert_eq!((mode_of(home.folder()), mode_of(&home.logs())), (0o700, 0o700));
    home.prepare().unwrap();
    assert_eq!(fs::read_dir(home.folder()).unwrap().count(), 1, "the probe is gone");
    // Others may look into an existing folder; its owner wanted that.
    set_mode(home.folder(), 0o755);
    home.prepare().unwrap();
    assert_eq!(mode_of(home.folder()), 0o755);
    let link = scratch.join("link");
    symlink(home.folder(), &link).unwrap();
    Home::at(&link).unwrap().prepare().unwrap();
}

#[test]
fn the_variables_choose_the_home() {
    let choose = |variables: &[(&str, &str)]| {
        chosen(|name| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into()))
    };
    assert_eq!(choose(&[("OXHERD_HOME", "/a"), ("HOME", "/h")]), Some("/a".into()));
    assert_eq!(choose(&[("OXHERD_HOME", ""), ("HOME", "/h")]), Some("/h/.oxherd".into()));
    assert_eq!(choose(&[("HOME", "")]), None);
    assert_eq!(
        HomeError::Unknown.to_string(),
        "there is no home folder: neither OXHERD_HOME nor HOME is set (set OXHERD_HOME to a folder that you may write)"
    );
}

#[test]
fn a_home_that_was_made_up_is_meant_only_where_it_is_served_and_the_usual_one_is_of_no_use() {
    let scratch = Scratch::new();
    let folder = scratch.join("made-up");
    let meant = |usual| Home::served(usual, [scratch.join("none"), folder.clone()].into_iter());
    let unknown = || Err(HomeError::Unknown);
    let useless = || {
        fs::write(scratch.join("file"), "").unwrap();
        Home::at(&scratch.join("file"))
    };
    let made_up = Home::at(&folder).unwrap();
    made_up.prepare().unwrap();
    let herd = UnixListener::bind(made_up.socket()).unwrap();
    assert_eq!(meant(unknown()).unwrap(), made_up);
    assert_eq!(meant(useless()).unwrap(), made_up);
    assert_eq!(meant(Ok(home_in(&scratch))).unwrap(), home_in(&scratch), "a good home is made");
    drop(herd);
    wait_until_nobody_listens(&made_up.socket());
    assert!(matches!(meant(unknown()), Err(HomeError::Unknown)), "a dead herd's socket is no herd");
    assert_eq!(meant(useless()).unwrap(), useless().unwrap());
}

#[test]
fn a_relative_home_is_made_absolute() {
    let home = Home::at(Path::new("some/where")).unwrap();
    assert!(home.folder().is_absolute() && home.folder().ends_with("some/where"));
}

#[test]
fn unfit_folders_are_told_with_the_way_out() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    fs::write(home.folder(), "").unwrap();
    assert_eq!(
        told(&scratch, home.prepare()),
        "cannot use /x/home: it is not a folder (move it away, or set OXHERD_HOME to a folder)"
    );
    fs::remove_file(home.folder()).unwrap();
    home.prepare().unwrap();
    for mode in [0o720, 0o702, 0o777] {
        set_mode(home.folder(), mode);
        assert_eq!(
            told(&scratch, home.prepare()),
            "cannot use /x/home: other users may write to it (close it with: chmod 700 /x/home)"
        );
    }
    let lost = Home::at(&scratch.join("no/home")).unwrap();
    assert_eq!(
        told(&scratch, lost.prepare()),
        "cannot use /x/no/home: there is no folder /x/no (make it, or set OXHERD_HOME to a folder that you may write)"
    );
    let link = scratch.join("dangling");
    symlink("nowhere", &link).unwrap();
    assert_eq!(
        told(&scratch, Home::at(&link).unwrap().prepare()),
        "cannot use /x/dangling: no such file or directory (set OXHERD_HOME to a folder that you may write)"
    );
}

#[test]
fn a_logs_folder_that_is_open_is_refused_too() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    home.prepare().unwrap();
    set_mode(&home.logs(), 0o777);
    assert!(told(&scratch, home.prepare()).starts_with("cannot use /x/home/logs: other users"));
}

#[test]
fn another_users_home_is_refused_also_by_root() {
    if own_user() != 0 {
        eprintln!("SKIPPED: only root can give a folder away");
        return;
    }
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    home.prepare().unwrap();
    chown(home.folder(), Some(65534), None).unwrap();
    assert_eq!(
        told(&scratch, home.prepare()),
        "cannot use /x/home: it belongs to user id 65534, and this is user id 0 (act as that user, or set OXHERD_HOME \
         to a folder of your own)"
    );
}

#[test]
fn a_folder_that_we_may_not_write_is_refused() {
    if skips_as_root() {
        return;
    }
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    home.prepare().unwrap();
    set_mode(home.folder(), 0o500);
    let expected = "cannot use /x/home: permission denied (set OXHERD_HOME to a folder that you may write)";
    assert_eq!(told(&scratch, home.prepare()), expected);
    set_mode(home.folder(), 0o700);
    set_mode(scratch.path(), 0o500);
    let below = Home::at(&scratch.join("new")).unwrap();
    assert_eq!(told(&scratch, below.prepare()), expected.replace("home:", "new:"));
    set_mode(scratch.path(), 0o700);
}

#[test]
fn a_read_only_file_system_is_told() {
    let Some(disk) = Scratch::disk("1m") else { return };
    let (home, lock) = prepared(&disk);
    drop(lock);
    disk.make_read_only();
    let expected = |name: &str| {
        format!(
            "cannot use /x/{name}: the file system is read-only (set OXHERD_HOME to a folder that you may write)"
        )
    };
    assert_eq!(told(&disk, home.prepare()), expected("home"));
    assert_eq!(told(&disk, home.lock()), expected("home"));
    assert_eq!(told(&disk, home.write_pid(1)), expected("home/oxherd.pid"));
    assert_eq!(told(&disk, home.open_daemon_log()), expected("home/daemon.log"));
    assert_eq!(told(&disk, Home::at(&disk.join("new")).unwrap().prepare()), expected("new"));
    disk.make_writable();
}

#[test]
fn a_full_disk_stops_no_daemon_but_is_told() {
    let Some(disk) = Scratch::disk("64k") else { return };
    let (home, lock) = prepared(&disk);
    home.write_pid(41).unwrap();
    let filled = fs::write(disk.join("fill"), vec![0; 1 << 20]);
    assert_eq!(filled.unwrap_err().kind(), io::ErrorKind::StorageFull);
    home.prepare().unwrap();
    home.bind_control_socket(lock.as_fd()).unwrap();
    assert_eq!(
        told(&disk, home.write_pid(42)),
        "cannot use /x/home/oxherd.pid: the disk is full (free some space, or set OXHERD_HOME to a folder elsewhere)"
    );
    assert_eq!(home.read_pid(), Some(41), "the old file stays whole");
    assert_eq!(fs::read_dir(home.folder()).unwrap().count(), 4, "nothing half-written is left");
}

#[test]
fn a_disk_without_room_for_a_file_is_told() {
    let Some(disk) = Scratch::disk("64k,nr_inodes=1") else { return };
    assert_eq!(
        told(&disk, home_in(&disk).prepare()),
        "cannot use /x/home: the disk is full (free some space, or set OXHERD_HOME to a folder elsewhere)"
    );
}

#[test]
fn a_socket_path_that_does_not_fit_is_told() {
    let long = PathBuf::from(format!("/{}", "h".repeat(94)));
    assert_eq!(Home::at(&long).unwrap().socket().as_os_str().len(), UNIX_PATH_MAX);
    let error = Home::at(&long.join("i")).unwrap_err().to_string();
    assert!(error.contains("the path of a socket has at most 107 bytes, this one 109"), "{error}");
}

#[test]
fn one_daemon_at_a_time_holds_a_home() {
    let scratch = Scratch::new();
    let (home, lock) = prepared(&scratch);
    assert!(home.lock().unwrap().is_none());
    assert_eq!(mode_of(&home.lock_file()), 0o600);
    drop(lock);
    assert!(home.lock().unwrap().is_some());
}

#[test]
fn the_control_socket_is_private_and_a_stale_one_is_replaced() {
    let scratch = Scratch::new();
    let (home, lock) = prepared(&scratch);
    let first = home.bind_control_socket(lock.as_fd()).unwrap();
    assert_eq!(mode_of(&home.socket()), 0o600);
    UnixStream::connect(home.socket()).unwrap();
    drop(first);
    // A process that another test is just starting may hold a copy until it has become its program.
    wait_until_nobody_listens(&home.socket());
    let _second = home.bind_control_socket(lock.as_fd()).unwrap();
    UnixStream::connect(home.socket()).unwrap();
}

fn wait_until_nobody_listens(path: &Path) {
    let until = Instant::now() + Duration::from_secs(10);
    while UnixStream::connect(path).is_ok() {
        assert!(Instant::now() < until, "somebody still listens at {}", path.display());
        thread::yield_now();
    }
}

#[test]
fn a_socket_that_somebody_listens_at_is_left_alone() {
    let scratch = Scratch::new();
    let (home, lock) = prepared(&scratch);
    let stranger = UnixListener::bind(home.socket()).unwrap();
    let error = told(&scratch, home.bind_control_socket(lock.as_fd()));
    assert!(
        error.starts_with("cannot listen on /x/home/oxherd.sock: another process listens there"),
        "{error}"
    );
    UnixStream::connect(home.socket()).unwrap();
    drop(stranger);
    fs::remove_file(home.socket()).unwrap();
    fs::write(home.socket(), "precious").unwrap();
    assert_eq!(
        told(&scratch, home.bind_control_socket(lock.as_fd())),
        "cannot listen on /x/home/oxherd.sock: a file that is no socket is in the way (move it away)"
    );
    assert_eq!(fs::read(home.socket()).unwrap(), b"precious");
}

#[test]
fn a_pid_file_is_replaced_and_never_trusted() {
    let scratch = Scratch::new();
    let (home, lock) = prepared(&scratch);
    assert_eq!(home.read_pid(), None);
    fs::write(home.pid_file(), "not a pid").unwrap();
    assert_eq!(home.read_pid(), None);
    home.write_pid(77).unwrap();
    assert_eq!((home.read_pid(), mode_of(&home.pid_file())), (Some(77), 0o600));
    home.bind_control_socket(lock.as_fd()).unwrap();
    home.clear(lock.as_fd());
    assert!(!home.pid_file().exists() && !home.socket().exists() && home.lock_file().exists());
}

#[test]
fn the_daemons_log_grows_and_begins_anew() {
    let scratch = Scratch::new();
    let (home, _lock) = prepared(&scratch);
    for line in ["one\n", "two\n"] {
        home.open_daemon_log().unwrap().write_all(line.as_bytes()).unwrap();
    }
    assert_eq!(fs::read_to_string(home.daemon_log()).unwrap(), "one\ntwo\n");
    assert_eq!(mode_of(&home.daemon_log()), 0o600);
    home.open_daemon_log().unwrap().set_len(LOG_BYTES_MAX).unwrap();
    home.open_daemon_log().unwrap().write_all(b"new\n").unwrap();
    assert_eq!(fs::read_to_string(home.daemon_log()).unwrap(), "new\n");
    assert_eq!(fs::metadata(home.folder().join("daemon.log.1")).unwrap().len(), LOG_BYTES_MAX);
}
