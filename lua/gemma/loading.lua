--- loading.lua: a model that is being loaded: which files, how far it is, and what the user sees of
--- it.

local M = {}

M.QUIET_MS = 1000 -- loading that is over sooner is not worth a message

---@class (exact) gemma.LoadFiles
---@field path string of the model; '' while another Neovim has not told which one it lends
---@field mmproj string?
---@field no_mmproj string? why it is loaded without one, when it should have one

---@class gemma.Loading
---@field job integer the number of its job in the binding
---@field files gemma.LoadFiles
---@field package done integer bytes
---@field package total integer bytes; 0 while nobody knows
---@field package since number? ns, of the first progress
---@field package told gemma.Progress? what the user sees of it
local Loading = {}
Loading.__index = Loading

---@param job integer
---@param files gemma.LoadFiles
---@return gemma.Loading
function M.new(job, files)
  return setmetatable({ job = job, files = files, done = 0, total = 0 }, Loading)
end

--- Says how far it is, when loading takes long; what is done in a moment says nothing.
---@param done integer bytes
---@param total integer bytes
function Loading:report(done, total)
  self.done, self.total = done, total
  self.since = self.since or vim.uv.hrtime()
  if not self.told and vim.uv.hrtime() - self.since >= M.QUIET_MS * 1e6 then
    self.told = require('gemma.progress').start('loading the model')
  end
  if self.told and total > 0 then
    self.told:report(done * 100 / total)
  end
end

--- Says how it ended, when anything was said before.
---@param how 'done'|'fail'|'cancel'
---@param text string?
function Loading:finish(how, text)
  if self.told then
    self.told[how](self.told, text)
  end
end

---@return number? share of the file that is read, 0..1; nil while nobody knows
function Loading:share()
  return self.total > 0 and self.done / self.total or nil
end

return M
