// The job that runs: a bar where it was started, and one at the page's edge while that place is out of sight.

import { button } from "./bars.js";
import { element } from "./dom.js";
import { followTheme } from "./theme.js";

/** @typedef {import("./messages.js").Job} Job */

class Meter {
  /** @param {() => void} onCancel */
  constructor(onCancel) {
    this.bar = element("progress", "", { max: 1 });
    this.bar.setAttribute("aria-label", "progress");
    this.text = element("span", "aq-job");
    this.cancel = button("Cancel", "Cancel the job", onCancel);
    this.root = element("div", "aq-jobs", {}, this.bar, this.text, this.cancel);
  }

  /** @param {Job} job */
  show(job) {
    this.bar.value = job.fraction;
    this.text.textContent = job.text;
    this.cancel.disabled = job.stopping;
  }
}

export class JobBar {
  /** @type {Job | null} */
  job = null;
  inSight = true; // until the page has looked
  unfollowTheme = () => {};

  /**
   * @param {() => HTMLElement} panel what the bar at the edge leads back to
   * @param {() => void} onCancel
   */
  constructor(panel, onCancel) {
    this.here = new Meter(onCancel);
    this.root = this.here.root;
    this.root.hidden = true;
    this.away = new Meter(onCancel);
    this.back = button("Show", "Scroll to the panel", () => panel().scrollIntoView({ block: "start" }));
    this.edge = element("div", "aq-view aq-edge", {}, this.away.root, this.back);
    this.edge.setAttribute("role", "group");
    this.edge.setAttribute("aria-label", "the job that runs");
    this.sight = new IntersectionObserver((entries) => {
      this.inSight = entries[entries.length - 1].isIntersecting;
      this.place();
    });
    this.sight.observe(this.root);
  }

  /**
   * In the place where it was started; null ends it.
   * @param {Job | null} job
   * @param {HTMLElement} place
   */
  show(job, place) {
    this.job = job;
    this.root.hidden = !job;
    if (this.root.parentNode !== place) place.append(this.root);
    if (job) {
      this.here.show(job);
      this.away.show(job);
    }
    this.place();
  }

  place() {
    const away = Boolean(this.job) && !this.inSight;
    // A host may take a cell that is far away from the page: then there is nothing to scroll to.
    this.back.hidden = !this.root.isConnected;
    if (away === this.edge.isConnected) return;
    if (away) {
      this.root.ownerDocument.body.append(this.edge);
      this.unfollowTheme = followTheme(this.edge);
    } else this.leave();
  }

  leave() {
    this.unfollowTheme();
    this.edge.remove();
  }

  close() {
    this.sight.disconnect();
    this.leave();
  }
}
