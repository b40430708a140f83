/** What the process of a bulk work may reach, of all that its user could: the folders of that work, and sockets of the kinds that it needs. */
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf } from '../../base/index.ts';
import { usesNodeCredentials } from '../../blob/index.ts';
import type { CaptureSource, CollectionLocation, Place } from '../contract.ts';
import type { TimelineStoreLocation } from '../store-contract.ts';
import type { BulkWork } from './messages.ts';

/** Plain data. Of what is not there nothing can be reached, but what is to be written, which can be made. */
export interface Cell {
  /** Folders and files, with all below. */
  readonly reads: readonly string[];
  /** Folders whose content is changed, with all below. */
  readonly writes: readonly string[];
  /** Single files that are changed. */
  readonly edits: readonly string[];
  /** Servers of this machine: those of instances, which know us by our user. */
  readonly hasInstances: boolean;
  readonly hasNetwork: boolean;
  /** Files with the node's own rights in storage services. */
  readonly hasOwnRights: boolean;
}

export const NOTHING: Cell = {
  reads: [],
  writes: [],
  edits: [],
  hasInstances: false,
  hasNetwork: false,
  hasOwnRights: false,
};

/** What a work needs. Every kind names its own, so that none gets what another was given. */
export function cellOf(work: BulkWork): Cell {
  switch (work.kind) {
    case 'backup':
      return joined(capturing(work.request.source), changing(work.request.collection));
    case 'materialize':
      return joined(reading(work.request.collection), making(work.request.targetDirectory));
    case 'capture_base':
      return joined(capturing(work.request.source), { writes: [work.request.store.directory] });
    case 'materialize_point':
    case 'rewind':
      return joined(timeline(work.request.store), making(work.request.targetDirectory));
    case 'receive_base':
      return joined(making(work.request.targetDirectory), { hasNetwork: true });
    case 'publish':
      return joined(timeline(work.request.store), changing(work.request.collection));
    case 'backup_objects': {
      const { source, collection, timeline: log } = work.request;
      return joined(capturing(source), changing(collection), log === undefined ? {} : timeline(log.store));
    }
    case 'restore_objects': {
      const { origin } = work.request;
      const from = origin.kind === 'backup' ? reading(origin.collection) : {};
      return joined(from, { hasInstances: true });
    }
    case 'check_directory':
      return joined({ reads: [work.request.dataDirectory] });
    case 'check_objects':
      return joined(timeline(work.request.store));
    case 'list_files':
      return joined(reading(work.request.collection));
    case 'describe_databases':
      return joined({ hasInstances: true });
  }
}

function capturing({ dataDirectory }: CaptureSource): Partial<Cell> {
  return { reads: [dataDirectory], hasInstances: true };
}

function timeline({ directory }: TimelineStoreLocation): Partial<Cell> {
  return { reads: [directory] };
}

function making(directory: string): Partial<Cell> {
  return { writes: [directory] };
}

function reading(collection: CollectionLocation): Partial<Cell> {
  return joined(...placesOf(collection).map((place) => ofPlace(place, 'reads')));
}

/** What is written is read, too: what others have left there, and again what was written. */
function changing(collection: CollectionLocation): Partial<Cell> {
  return joined(...placesOf(collection).map((place) => ofPlace(place, 'writes')));
}

function placesOf(collection: CollectionLocation): readonly Place[] {
  return 'places' in collection ? collection.places : [collection];
}

function ofPlace(place: Place, use: 'reads' | 'writes'): Partial<Cell> {
  const edits = place.rates === undefined ? [] : [place.rates.path];
  if ('service' in place) {
    return { edits, hasNetwork: true, hasOwnRights: usesNodeCredentials(place.service) };
  }
  const quota = place.quota === undefined ? [] : [place.quota.directory];
  if (use === 'reads') return { reads: [place.directory, ...quota], edits };
  return { writes: [place.directory], reads: quota, edits };
}

function joined(...parts: readonly Partial<Cell>[]): Cell {
  const all = parts.map((part) => ({ ...NOTHING, ...part }));
  return {
    reads: all.flatMap(({ reads }) => reads),
    writes: all.flatMap(({ writes }) => writes),
    edits: all.flatMap(({ edits }) => edits),
    hasInstances: all.some(({ hasInstances }) => hasInstances),
    hasNetwork: all.some(({ hasNetwork }) => hasNetwork),
    hasOwnRights: all.some(({ hasOwnRights }) => hasOwnRights),
  };
}

/** A cell with the files and folders that its paths named: the kernel's rules are for these, and not for what comes to lie at the same path. */
export interface FoundCell {
  readonly cell: Cell;
  /** Null where there was nothing. */
  readonly found: readonly (string | null)[];
}

/** What the paths of a cell name now. */
export async function findCell(cell: Cell): Promise<FoundCell> {
  const { reads, writes, edits } = cell;
  return { cell, found: await Promise.all([...reads, ...writes, ...edits].map(inodeAt)) };
}

async function inodeAt(path: string): Promise<string | null> {
  try {
    const { dev, ino, birthtimeNs } = await stat(path, { bigint: true });
    return `${dev}/${ino}/${birthtimeNs}`;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return null;
  }
}

/** Folders that are synced when what lies in them was made or renamed. */
export function foldersAbove(cell: Cell): readonly string[] {
  return cell.writes.map((path) => dirname(path));
}
