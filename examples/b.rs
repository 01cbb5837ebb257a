#![allow(clippy::all, missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]
use lamina::{bench::*, units::Bytes, driver::DriverKind};
fn main() {
    lamina::interrupt::install().unwrap();
    let mut a = std::env::args().skip(1);
    let dir = a.next().unwrap(); let d: DriverKind = a.next().unwrap().parse().unwrap();
    let w: Vec<_> = match a.next().unwrap().as_str() { "all" => WORKLOADS.to_vec(), l => l.split(',').map(|n| workload(n).unwrap()).collect() };
    let runs = a.next().and_then(|r| r.parse().ok()).filter(|n| *n > 0);
    let size: Bytes = a.next().map_or(Bytes::gib(1), |s| s.parse().unwrap());
    let files = a.next().map_or(100_000, |s| s.parse().unwrap());
    let o = Options { directory: dir.into(), drivers: vec![d], workloads: w, runs, tar: Some("/var/tmp/lamina-debian.tar".into()), file_size: size, files };
    let r = run(&o, &mut |w, d| eprintln!("{} {d}", w.name)).unwrap();
    for row in &r.rows { match &row.outcome {
        Outcome::Measured{subject,base,ratio,met} => { let s=|x:&Summary| format!("{} ({}-{}; mean {})", row.unit.show(x.median), row.unit.show(x.lower), row.unit.show(x.upper), row.unit.show(x.mean));
            println!("{} {} {}: {} vs {:?} {} ratio {ratio:?} limit {:?} {met:?}", row.workload, row.driver, row.what, s(subject), row.against, base.as_ref().map(s).unwrap_or_default(), row.limit.map(|l| l.to_string())); }
        o => println!("{} {} {}: {o:?}", row.workload, row.driver, row.what) } }
}
