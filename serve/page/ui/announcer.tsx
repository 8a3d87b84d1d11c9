/** The one live region of the page. */
import { announcement } from "../state/announcer.ts";

export function Announcer() {
  return (
    <div class="visually-hidden" role="status">
      {announcement}
    </div>
  );
}
