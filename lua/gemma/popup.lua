--- popup.lua: is a completion menu open, and has the user selected an entry of it? Neovim's own, and
--- those of blink.cmp and nvim-cmp, which are floats that Neovim does not know as menus.
---
--- Only what these two have loaded themselves is looked at. The fields are those of blink.cmp 1 and
--- 2 and of nvim-cmp's views; where they are named otherwise the answer is no.

local M = {}

local api = vim.api

---@return boolean?
local function blink_open()
  local menu = package.loaded['blink.cmp.completion.windows.menu']
  return menu and menu.win:is_open()
end

--- An entry that is marked without a key (preselect) is not selected: one would be all the time.
---@return boolean?
local function blink_selected()
  local list = blink_open() and package.loaded['blink.cmp.completion.list']
  return list and list.selected_item_idx ~= nil and list.is_explicitly_selected
end

--- nvim-cmp's public functions wait up to a second for its sources; its view does not.
---@return boolean?
local function cmp_open()
  return package.loaded.cmp and package.loaded.cmp.core.view:visible()
end

---@return boolean?
local function cmp_selected()
  return package.loaded.cmp and package.loaded.cmp.core.view:get_active_entry() ~= nil
end

---@param question fun(): boolean?
---@return boolean
local function yes(question)
  local ok, answer = pcall(question)
  return ok and answer == true
end

--- Is a menu open?
---@return boolean
function M.visible()
  return vim.fn.pumvisible() == 1 or yes(blink_open) or yes(cmp_open)
end

--- Is an entry of it selected?
---@return boolean
function M.selected()
  if vim.fn.pumvisible() == 1 then
    return vim.fn.complete_info({ 'selected' }).selected ~= -1
  end
  return yes(blink_selected) or yes(cmp_selected)
end

local heard = false -- nvim-cmp, which may be loaded later than we are

---@param changed fun()
---@return boolean heard
local function listen_to_cmp(changed)
  heard = heard
    or pcall(function()
      local event = package.loaded.cmp.event
      event:on('menu_opened', changed)
      event:on('menu_closed', changed)
    end)
  return heard
end

--- Tells when a menu comes, goes or has another selection. nvim-cmp tells only the former two; the
--- text that an entry puts in tells the latter.
---@param group integer of autocommands
---@param changed fun()
function M.watch(group, changed)
  local function au(events, callback, pattern)
    api.nvim_create_autocmd(events, { group = group, callback = callback, pattern = pattern })
  end
  au({ 'CompleteChanged', 'CompleteDone' }, changed)
  au('User', changed, { 'BlinkCmpMenuOpen', 'BlinkCmpMenuClose', 'BlinkCmpListSelect' })
  vim.schedule(function()
    listen_to_cmp(changed) -- what this Insert mode loads is there by then
  end)
  au('InsertEnter', function()
    -- It is enough to succeed once: what returns true is deleted as an autocommand.
    return listen_to_cmp(changed)
  end)
end

return M
