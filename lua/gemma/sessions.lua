--- sessions.lua: which cache of the model serves what.
---
--- The library has eight (GEMMA_SESSION_MAX of gemma.h). One that nothing has used yet takes no memory;
--- one that is in use takes hundreds of megabytes (|gemma-option-n_ctx|) and holds the last prompt, so
--- that the next prompt with the same beginning is read from where they differ. Two features that
--- shared a number would throw each other's prompt out.

---@enum gemma.Session
return {
  GHOST = 0, -- ghost text, what is read ahead for it, and gemma.complete()
  ANSWERS = 1, -- conversations; edits and commit messages too while no conversation is open
  PLUGINS = 2, -- gemma.ask() when it names none, and dictation
  TASKS = 3, -- edits and commit messages beside an open conversation; a fork of ANSWERS
  PLUGINS_TOO = 4, -- gemma.ask() when it names this one: a second conversation of another plugin
  BORROWED_GHOST = 5, -- ghost text of the Neovims that borrow the model, all of them together
  BORROWED = 6, -- everything else that these ask
  CANDIDATES = 7, -- other suggestions at the same place; a fork of GHOST
}
