// All texts of the page. To translate the page, translate this file. Warnings and reasons come from the server.

const two = number => number.toFixed(2);
export const percent = share => (share == null ? "–" : `${(100 * share).toFixed(1)}%`);
export const ml = volume => (volume == null ? "–" : `${volume.toFixed(0)} ml`);
const of = name => (name ? `of ${name}` : "without a name");
const signed = number => `${number}`.replace("-", "−");
const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;

const verdicts = {
  covid: "COVID-19",
  "not covid": "not COVID-19",
  uncertain: "uncertain",
  "not a chest CT": "not a chest CT",
};
const openings = {
  covid: () => "COVID-19 is likely",
  "not covid": () => "COVID-19 is unlikely",
  uncertain: reason => `It is uncertain whether this is COVID-19${reason ? ` (${reason})` : ""}`,
};
// A likelihood ratio does not say how likely it is: that also depends on what was known before the scan.
const weighed = {
  ...openings,
  covid: () => "The findings favour COVID-19",
  "not covid": () => "The findings argue against COVID-19",
};

export const T = {
  language: "en-GB",
  name: "Groundglass",
  research: "Research use only. Not a medical device.",
  skip: "Skip to the content",
  studies: "Studies",
  signOut: "Sign out",
  theme: "Colours",
  themes: { auto: "like the system", light: "light", dark: "dark" },
  loading: "Loading",
  back: "All studies",
  cancel: "Cancel",
  close: "Close",
  notFound: "There is no such page.",
  noConnection: "The server cannot be reached. Check the connection and try again.",
  tryAgain: "Try again",

  signIn: {
    title: "Sign in",
    token: "Token",
    hint: "The server printed the first token when it was first started. Its operator can create others.",
    button: "Sign in",
    ended: "You were signed out. Sign in again.",
  },

  upload: {
    title: "Send a chest CT",
    drop: "Drop files, a folder or a ZIP here",
    formats: "DICOM, NIfTI, MetaImage, NRRD, PNG or JPEG. Files that are sent together form one study.",
    files: "Choose files",
    folder: "Choose a folder",
    options: "Options",
    bundle: "Detector",
    anonymise: "Remove the patient's identity from DICOM results",
    empty: "There were no files to send.",
    sending: (count, done) => `Sending ${plural(count, "file", "files")}: ${done}%`,
    storing: "The server is checking and storing the files",
    sent: "Your files were sent. Show the study.",
    refused: "The server did not accept the files",
    stopped: "The upload was stopped.",
    readOnly: "Your token allows you to see studies, but not to send any.",
  },

  list: {
    search: "Search",
    searchHint: "Name, ID or date (20261130)",
    state: "State",
    verdict: "Answer",
    all: "all",
    none: "No study matches.",
    first: "There are no studies yet.",
    columns: {
      choose: "Choose",
      patient: "Patient",
      date: "Study date",
      state: "State",
      verdict: "Answer",
      probability: "Probability",
      lesions: "Lesions",
      received: "Received",
      actions: "Actions",
    },
    unnamed: "No name",
    chosen: name => `Choose the study ${of(name)} for comparison`,
    compare: "Compare the two chosen studies",
    compareHint: "Choose two answered studies to compare them.",
    remove: "Delete",
    removeOf: name => `Delete the study ${of(name)}`,
    pages: (from, to, total) => `${from} to ${to} of ${plural(total, "study", "studies")}`,
    earlier: "Older",
    later: "Newer",
    pictures: count => plural(count, "picture", "pictures"),
    several: "several studies",
  },

  node: {
    title: "DICOM node",
    show: "Show",
    states: {
      receiving: "receiving",
      waiting: "waiting",
      answered: "answered",
      sent: "sent",
      failed: "failed",
      ignored: "not answered or sent",
    },
    summary: ({ ae_title, counts }) =>
      `DICOM node ${ae_title}: ${counts.receiving} receiving, ${counts.waiting} waiting, ${counts.answered} answered, ` +
      `${counts.sent} sent, ${counts.failed} failed`,
    columns: ["Patient", "From", "Instances", "State", "Results"],
    none: "There are no examinations.",
    unknown: "–",
    leftOut: (count, reason) => `${count} left out: ${reason}`,
    delivery: (destination, state) => `${destination}: ${state}`,
    reason: (problem, attempts) => `${plural(attempts, "attempt", "attempts")}: ${problem}`,
    uid: "Fetch the study with StudyInstanceUID",
    from: "from",
    fetch: "Fetch",
    fetched: "The study was fetched. It is listed above once it is complete.",
    resend: "Send again",
    resendTo: (name, destination) => `Send the results ${of(name)} to ${destination} again`,
  },

  states: {
    received: "received",
    queued: "waiting",
    running: "working",
    done: "answered",
    failed: "failed",
  },
  verdicts,
  working: (done, total) => (total ? `Reading slices: ${done} of ${total}` : "Reading the files"),
  waiting: "Waiting for a free worker",

  remove: {
    title: "Delete this study?",
    text: name => `The study ${of(name)}, its files and its results will be deleted permanently.`,
    button: "Delete",
  },

  study: {
    title: name => `Study ${of(name)}`,
    answer: "Answer",
    limits: "Limits of this answer",
    lesionsOnly: "Lesions have many causes. Their share shows how much of the lung is diseased, not why.",
    warnings: "Warnings about this scan",
    failed: "The study was not answered",
    retry: "Try again",
    remove: "Delete this study",
    divided: "The files belong to several examinations. Each one is a separate study:",
    part: number => `Study ${number}`,
    superseded: "Files of the same examination were sent later.",
    latest: "Show the later version",
    images: "Slices",
    noView: "The slices of this study were not kept. Delete it and send the files again to see them.",
    extent: "Volumes and shares",
    severity: "Severity band",
    noSeverity: "No severity band is given.",
    ratios: "Likelihood ratios",
    ratioColumns: ["Setting", "Likelihood ratio", "Interval", "Validated"],
    yes: "yes",
    no: "no",
    downloads: "Downloads",
    details: "Details",
    compare: "Compare with another study",
    compareWith: "Other studies of this patient",
    noOthers: "There is no other answered study with this patient ID. You can choose any two in the list.",
    unread: "Not read",
    notes: "Zones are thirds of the height of the lungs and are the same for both lungs. They are not lobes.",
    noZones: "The zones are unknown: they require a known orientation and lungs that are completely within the volume.",
  },

  /** The answer in one sentence. */
  answer: found => {
    if (found.verdict === "not a chest CT" || found.probability == null)
      return `No answer: ${found.reason || verdicts["not a chest CT"]}.`;
    const share = found.both?.lesion_share ?? found.lesion_share;
    const ratio = found.likelihood_ratios?.find(one => one.setting === (found.bundle?.setting ?? "differential"));
    const parts = [
      ratio
        ? `the likelihood ratio is ${(+ratio.ratio).toPrecision(2)} (${ratio.setting})`
        : `the probability is ${two(found.probability)}`,
    ];
    if (share != null) parts.push(`lesions fill ${percent(share)} of the lungs`);
    const band = found.severity ? ` (${found.severity})` : "";
    return `${(ratio ? weighed : openings)[found.verdict](found.reason)}: ${parts.join(", and ")}${band}.`;
  },
  pictures: summary =>
    `${summary.covid} of ${plural(summary.slices, "picture", "pictures")}: COVID-19 is likely.` +
    (summary.uncertain ? ` ${summary.uncertain} uncertain.` : "") +
    (summary.not_a_chest_ct ? ` ${summary.not_a_chest_ct} not a chest CT.` : "") +
    (summary.failed ? ` ${plural(summary.failed, "file", "files")} could not be read.` : ""),
  pictureLimits: "Each picture is answered separately, even if several are of the same patient.",
  picture: "Picture",
  heatmap: "Heatmap",
  pictureOf: name => `Picture ${name}`,
  heatmapOf: name => `Heatmap of ${name}: the brighter an area, the more it points to COVID-19`,

  regions: {
    both: "Both lungs",
    right: "Right lung",
    right_upper: "upper third",
    right_middle: "middle third",
    right_lower: "lower third",
    left: "Left lung",
    left_upper: "upper third",
    left_middle: "middle third",
    left_lower: "lower third",
  },
  amounts: {
    region: "Region",
    lung: "Lung",
    lesion: "Lesions",
    ground_glass: "Ground glass",
    consolidation: "Consolidation",
    share: "Share",
  },

  viewer: {
    stage: "Slice viewer",
    keys: [
      ["Up, Down", "next slice towards the head, towards the feet"],
      ["Page Up, Page Down", "ten slices"],
      ["Home, End", "last slice at the head, first at the feet"],
      ["1, 2, 3", "window for lung, mediastinum, bone"],
      ["+, −, 0", "zoom in, zoom out, whole slice"],
      ["Alt and arrows", "move the slice"],
      ["Shift and arrows", "move the cross-hair that reads values"],
      ["M", "set an end of a length at the cross-hair"],
      ["Escape", "remove the length"],
      ["O", "show or hide all overlays"],
    ],
    help: "Keys",
    slice: (number, of) => `Slice ${number} of ${of}`,
    height: mm => `height ${signed(mm.toFixed(1))} mm`,
    lesions: share => `lesions in ${percent(share)} of the lungs`,
    unread: problem => `This slice could not be read: ${problem}.`,
    waiting: "This slice is still being sent.",
    failed: "The slices cannot be loaded.",
    loaded: (count, of) => (count < of ? `${count} of ${of} slices loaded` : "All slices loaded"),
    goTo: "Slice",
    strip: "Lesion area along the lungs. Click to go to a slice.",
    telling: "Slices with the most lesion",
    tellingSlice: (number, area) => `${number}: ${area}`,
    noTelling: "No lesions were found.",
    tools: "Drag",
    toolNames: { scroll: "Scroll", window: "Window", pan: "Move", length: "Length" },
    window: "Window",
    presets: { lung: "Lung", mediastinum: "Mediastinum", bone: "Bone" },
    greyPreset: "Whole range",
    level: "Level",
    width: "Width",
    view: "View",
    larger: "Zoom in",
    smaller: "Zoom out",
    fit: "Whole slice",
    overlays: "Overlays",
    lungs: "Lungs",
    ground_glass: "Ground glass",
    consolidation: "Consolidation",
    lesion: "Lesions",
    heat: "Heatmap",
    heatHint: "The brighter an area, the more it points to COVID-19. The scale is the same for all slices.",
    opacity: "Opacity",
    right: "R",
    left: "L",
    sides: "R is the patient's right.",
    assumed: "The files do not state which side is right. It was assumed.",
    value: (value, unit) => `${signed(value)} ${unit}`,
    grey: "grey",
    place: (x, y, z) =>
      `${x > 0 ? "L" : "R"} ${Math.abs(x).toFixed(1)}, ${y > 0 ? "P" : "A"} ${Math.abs(y).toFixed(1)}, ` +
      `${z > 0 ? "H" : "F"} ${Math.abs(z).toFixed(1)} mm`,
    pixel: (row, column) => `row ${row + 1}, column ${column + 1}`,
    pointer: "Point at the slice to read values.",
    length: text => `Length ${text}`,
    mm: length => `${length.toFixed(1)} mm`,
    px: length => `${length.toFixed(1)} pixels`,
    noLength: "Drag on the slice to measure.",
    area: mm2 => `${(mm2 / 100).toFixed(1)}\u00a0cm²`,
    areaPx: count => `${count} pixels`,
  },

  compare: {
    title: "Follow-up",
    before: "Before",
    after: "After",
    change: "Change",
    points: points => `${points.toFixed(1)} points`,
    link: "Move both to the same height of the lungs",
    same: "Height is relative: a share of the distance from the lowest slice with lungs to the highest.",
    warnings: "Limits of the comparison",
    undated: "The files state no dates, so the studies are shown in the order in which they were sent.",
    swap: "Swap before and after",
    limit: "Differences in inspiration also change these figures. The segmenter's own error was not taken into account.",
  },

  details: {
    patient: "Patient",
    patientId: "Patient ID",
    date: "Study date",
    received: "Received",
    finished: "Answered",
    bundle: "Detector",
    segmenter: "Segmenter",
    trained: "Trained on",
    size: "Slices",
    sizeOf: shape => `${shape[0]} of ${shape[1]} × ${shape[2]} pixels`,
    spacing: "Spacing",
    series: "Series",
    counted: "Slices that count",
    others: "Other series",
    files: "Files sent",
    version: "Version",
    id: "Study ID",
    software: "Groundglass",
  },

  results: {
    "report.html": "Report, to read in a browser",
    "report.pdf": "Report, to print (PDF)",
    "findings.json": "All findings (JSON)",
    "slices.csv": "Figures of each slice (CSV)",
    "predictions.csv": "Answers for each picture (CSV)",
    "lungs.nii.gz": "Mask of the lungs (NIfTI)",
    "lesions.nii.gz": "Mask of the lesions (NIfTI)",
    "seg.dcm": "Masks (DICOM segmentation)",
    "sr.dcm": "Measurements (DICOM structured report)",
    "sc.dcm": "Overview (DICOM picture)",
  },
};
