//! Local time agrees with `date` under the same `TZ`.
#![cfg(unix)]

use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use logcore::log::Level;
use logcore::{Formatter, Record, Style};
use logcore_formatters::{Plain, take_zone_problem};

/// A second in winter and a second in summer.
const SECONDS: [u64; 2] = [1_767_225_600, 1_782_864_000];

/// Prints local times and the number of problems. The other tests run this test in a process with
/// another `TZ`.
#[test]
#[allow(clippy::print_stdout, reason = "the parent process reads the output")]
fn print_local_times() {
    let times = SECONDS.map(|second| {
        let time = UNIX_EPOCH + Duration::from_secs(second);
        let mut line = String::new();
        Plain::default().format(&Record::at(time, Level::Info, "", ""), &Style::default(), &mut line);
        line.split(" |").next().unwrap_or_default().to_owned()
    });
    let problems = [take_zone_problem(), take_zone_problem()];
    println!("|{}|{}|", times.join("|"), problems.iter().flatten().count());
}

fn output_in(zone: &str) -> Vec<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["print_local_times", "--exact", "--nocapture"])
        .env("TZ", zone)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.contains('|')).unwrap();
    line.split('|').skip(1).map(str::to_owned).collect()
}

fn date_in(zone: &str, second: u64) -> String {
    let output = Command::new("date")
        .args(["-d", &format!("@{second}"), "+%F %T"])
        .env("TZ", zone)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn local_time_agrees_with_date() {
    let zones = [
        "Europe/Berlin",
        ":America/New_York",
        "Asia/Kolkata",
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "<+0530>-5:30",
        "/usr/share/zoneinfo/Australia/Lord_Howe",
        "UTC",
        "",
    ];
    for zone in zones {
        let output = output_in(zone);
        assert_eq!(output[..2], SECONDS.map(|second| date_in(zone, second)), "TZ={zone}");
        assert_eq!(output[2], "0", "TZ={zone}");
    }
}

#[test]
fn unknown_zone_is_utc_and_is_reported_once() {
    for zone in ["Mars/Olympus_Mons", ":nowhere", "/etc/passwd"] {
        let output = output_in(zone);
        assert_eq!(output[..2], SECONDS.map(|second| date_in("UTC", second)), "TZ={zone}");
        assert_eq!(output[2], "1", "TZ={zone}");
    }
}
