/** Icons as lines on a field of 24 by 24, drawn in the colour of the text beside them. */

const PATHS = {
  plus: "M12 5v14M5 12h14",
  send: "M12 19V6M6 11.5 12 5.5l6 6",
  stop: "M6.5 6.5h11v11h-11z",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6 6 18",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  check: "M5 12.5l4.5 4.5L19 7.5",
  edit: "M4 20h4L19 9l-4-4L4 16zM13.5 6.5l4 4",
  again: "M4.5 12a7.5 7.5 0 1 0 2.4-5.5M4 4v4.5h4.5",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  sliders:
    "M4 8h8M18 8h2M17.5 8a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0zM4 16h2M12 16h8M11.5 16a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0z",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  down: "M12 5v13M6 12.5l6 6 6-6",
  chat: "M4 5h16v11H10l-5 4v-4H4z",
  gauge: "M4 18a9 9 0 1 1 16 0M12 15l4-5",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 3v1M12 20v1M3 12h1M20 12h1M5.5 5.5l1 1M17.5 17.5l1 1M5.5 18.5l1-1M17.5 6.5l1-1",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z",
  display: "M4 5h16v11H4zM9 20h6M12 16v4",
  keyboard: "M3 7h18v10H3zM7 10.5h.01M11 10.5h.01M15 10.5h.01M8 14h8",
  key: "M15 4a5 5 0 1 0-4.6 7L4 17.4V20h3v-2h2v-2h2l1.9-1.9M16 8h.01",
  book: "M5 4h11a3 3 0 0 1 3 3v13H8a3 3 0 0 1-3-3zM5 17a3 3 0 0 1 3-3h11",
  warning: "M12 4 2.8 20h18.4zM12 10v4.5M12 17.2h.01",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
